#!/bin/sh
# A systemctl for tests: what it answers lies in files of ~/says, named by the first word after --user.
#   WORD.out, WORD.err, WORD.code, and WORD.late: seconds that it takes
says=$HOME/says
[ "$1" = --user ] && shift
word=$1
[ "$word" = show ] && for last; do word="show-${last##*.}"; done
echo "$@" >> "$says/asked"
[ -f "$says/$word.late" ] && sleep "$(cat "$says/$word.late")"
[ -f "$says/$word.out" ] && cat "$says/$word.out"
[ -f "$says/$word.err" ] && cat "$says/$word.err" >&2
[ -f "$says/$word.code" ] && exit "$(cat "$says/$word.code")"
exit 0
