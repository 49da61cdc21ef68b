"""What AI clients say through their hooks, and what is said back: one small module for each client.

Rule: pure; from text to an `Event` and from an `Advice` to text. Who is meant and what follows is the server's.
"""
