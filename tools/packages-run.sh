#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a booted root with the packages does: see packages.sh. Where there are several steps, the next boot has the
# next one.
sh -eux /packages/boot.sh >>/packages/log 2>&1
status=$?
echo $status >/packages/status
case $status.$(cat /packages/step 2>/dev/null) in
0.2 | 0.3) exec systemctl reboot --no-block ;;
esac
exec systemctl poweroff --no-block
