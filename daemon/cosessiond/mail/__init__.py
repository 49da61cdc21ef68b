"""Letters between sessions: durable, in bounded boxes, and never lost with whom they were for."""
