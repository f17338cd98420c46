#!/bin/sh
# Ray starts this for HAProxy. Its configuration opens pages of HAProxy's own, statistics and metrics, on all
# interfaces, and no setting of Ray's says otherwise; here they are bound to loopback before the real program takes
# this process over.
set -e
previous=
for argument; do
    if [ "$previous" = "-f" ]; then
        sed -i -E 's/^([[:space:]]*bind )\*?:([0-9]+)[[:space:]]*$/\1127.0.0.1:\2/' "$argument"
    fi
    previous=$argument
done
exec "$RAYLINE_HAPROXY" "$@"
