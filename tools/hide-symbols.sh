#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a static library whose only global symbols are the public ones, so that it clashes with nobody's names.
# usage: tools/hide-symbols.sh IN.a OUT.a
set -eu
object=${2%.a}.o
${LD:-ld} -r -o "$object" --whole-archive "$1"
${OBJCOPY:-objcopy} --localize-hidden "$object"
rm -f "$2"
${AR:-ar} rcs "$2" "$object"
