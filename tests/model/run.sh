#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Checks the models of this folder with spin, and that spin finds the mistake in each of their mutants.  Prints TAP.
#
#   run.sh [DIRECTORY OF THE MODELS [C COMPILER AND ITS OPTIONS]]
#
# A line of the list is: what is expected, the model, its definitions.
#   holds   no assertion is violated and nobody waits in vain, in any interleaving
#   ends    the same, and no execution goes on for ever: there is no cycle at all
#   fails   the mutant is found
#   circles the mutant is found because it goes on for ever
set -u

models=$(cd "${1:-$(dirname "$0")}" && pwd) || exit 1
[ $# -gt 0 ] && shift
cc=${*:-cc}
seconds=30              # of one run; they take a few at most
memory=2000             # MiB, likewise

list ()
{
  cat <<'END'
holds channel
holds channel CALLS=3 MOVES=1
holds channel FUTEX MOVES=1
holds channel ONEWAY
holds channel STOPS MOVES=1 CRASHES
holds channel CRASHES DEATH CALLS=1
holds channel CRASHES ONEWAY MOVES=1
holds channel CANCELS CALLS=1
holds channel CANCELS CRASHES MOVES=1
holds channel RECALLS MOVES=1
holds channel RECALLS CRASHES CALLS=1
ends channel CRASHES DEATH MOVES=1
fails channel MUTANT_WAKER_LOOKS_FIRST MOVES=1
fails channel MUTANT_SENDER_LOOKS_FIRST MOVES=1
fails channel MUTANT_SLEEPER_LOOKS_FIRST MOVES=1
fails channel MUTANT_WORD_LOADED_LAST MOVES=1
fails channel MUTANT_NO_LOOK_AT_EPOCH MOVES=1
fails channel MUTANT_EPOCH_UNCHANGED MOVES=1
fails channel MUTANT_STALE_POSITIONS MOVES=1
fails channel MUTANT_REPLIES_FROM_START MOVES=1
fails channel MUTANT_TAKEN_AFTER_HANDLER CRASHES MOVES=1
fails channel MUTANT_HEAD_AFTER_COMMIT CRASHES MOVES=1
fails channel MUTANT_WITHDRAW_FROM_OLD_HALF CANCELS MOVES=1
fails channel MUTANT_START_BEFORE_EPOCH CANCELS MOVES=1
fails channel MUTANT_SKIPPED_IN_SILENCE RECALLS MOVES=1
fails channel MUTANT_KICK_AND_GO ONEWAY MOVES=1
fails channel MUTANT_WAIT_FOR_CALLER STOPS
holds gate
holds gate CALLERS=3 CALLS=1
holds gate PIECEMEAL BUDGET=2
holds gate LEAVES CALLS=1 GIVES_UP
holds gate LEAVES RETURNS CALLERS=1
ends gate LEAVES RETURNS CALLERS=1 CALLS=1
fails gate MUTANT_QUEUED_CLEARED_LATE
fails gate MUTANT_LEAVER_STORES
fails gate MUTANT_NO_WORKER
fails gate MUTANT_WOKEN_AND_GONE
fails gate MUTANT_CLOSE_KEEPS_MARKS LEAVES RETURNS CALLERS=1
fails gate MUTANT_REFUSED_KEEPS_MARK LEAVES RETURNS CALLERS=1
fails gate MUTANT_KICK_WITHOUT_FENCE LEAVES RETURNS CALLERS=1
fails gate MUTANT_NO_LOOK_AFTER_OPENING LEAVES RETURNS CALLERS=1
fails gate MUTANT_LEAVES_ALL LEAVES RETURNS CALLERS=1
holds concurrent LEAVES
ends concurrent RETURNS
fails concurrent MUTANT_LEAVER_DOES_NOT_LOOK LEAVES
fails concurrent MUTANT_REQUEST_TO_LOOK_DROPPED RETURNS
fails concurrent MUTANT_NO_LOOK_AFTER_OPENING LEAVES
circles concurrent MUTANT_ASKS_ITSELF RETURNS
END
}

if ! command -v spin >/dev/null
then
  echo '1..0 # SKIP spin is not installed'
  exit 0
fi
# Compiling takes longer than running, unless a compiler does nothing else.
quick=$(command -v tcc) || quick="$cc -O0"
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch" || exit 1

# Builds and runs one checker; its output is left in ./output.
check ()
{
  expected=$1 model=$2
  shift 2
  switches=
  for definition
  do
    switches="$switches -D$definition"
  done
  case $expected in
    holds|fails) kind=-DSAFETY cycles= ;;
    *) kind=-DNP cycles=-l ;;
  esac
  rm -f pan ./*.trail
  # shellcheck disable=SC2086  # several switches
  spin -a $switches "$models/$model.pml" >output 2>&1 || return 1
  $quick -w -DCOLLAPSE -DNOFAIR -DMEMLIM=$memory $kind -o pan pan.c >>output 2>&1 || return 1
  timeout $seconds ./pan -m100000 -w20 $cycles >>output 2>&1
}

# What spin says, in one word: found, clean, or trouble when it did not come to an end.
verdict ()
{
  if grep -q '^pan:.*\(out of memory\|reached -DMEMLIM\|too small\|exceeds\)\|aborting\|max search depth' output
  then
    echo trouble
  elif grep -q 'errors: 0$' output
  then
    echo clean
  elif grep -q '^pan:1: \(assertion violated\|invalid end state\|non-progress cycle\)' output && grep -q 'errors: 1$' output
  then
    echo found
  else
    echo trouble
  fi
}

failed=0 n=0
list >todo
echo "1..$(wc -l <todo)"
while read -r expected model definitions
do
  n=$((n + 1))
  # shellcheck disable=SC2086  # several definitions
  check "$expected" "$model" $definitions
  outcome=$(verdict)
  wanted=clean
  case $expected in fails|circles) wanted=found ;; esac
  what="$model${definitions:+ $definitions}: $expected"
  if [ "$outcome" = "$wanted" ]
  then
    echo "ok $n - $what"
    sed -n 's/^ *\([0-9.e+]*\) states, stored.*/# \1 states/p; s/^pan:1: /# /p' output
  else
    echo "not ok $n - $what"
    sed 's/^/# /' output
    failed=1
    if [ -e "$model.pml.trail" ]
    then
      echo '# the interleaving:'
      # shellcheck disable=SC2086  # several switches
      spin -t -p -k "$model.pml.trail" $switches "$models/$model.pml" 2>&1 | tail -n 200 | sed 's/^/#   /'
    fi
  fi
done <todo
exit $failed
