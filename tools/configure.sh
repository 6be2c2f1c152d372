#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets a build directory up, or changes its options where they differ.
# usage: tools/configure.sh BUILD [meson options]
set -eu
build=$1
shift
if [ ! -f "$build/build.ninja" ]; then
	exec meson setup "$build" "$@"
fi
[ $# -eq 0 ] || exec meson configure "$build" "$@"
