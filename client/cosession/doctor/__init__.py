"""Doctor, preflight and checklist: checks that say what they saw, what that means and what to do; none changes a thing.

`table` lists the checks of each of the three, `engine` runs them, the other modules have the checks by subject. What
may be changed on request is `mending`, what can be sent to others `bundle`.

They work with the daemon down, which is when they are needed most: then the files are judged as a start would judge
them, by a child that opens a copy. Beside a daemon that serves, the daemon is asked.

Rule: a check never raises and never guesses; what it could not see is a warning with the reason. To add one, write a
function that takes a `Ground` and returns a `Seen`, and give it a row in `table`.
"""
