# Starts a job's driver with the right Python. Ray runs an entry point with whichever `python` comes first on the PATH of
# the head, which need not be the one that Ray itself runs on: that one is found by the library that our parent has loaded.
# The first argument says who is asked first: 'image' for Ray's own Python, 'path' where Ray made an environment.
order=$1
shift
own=$(sed -n 's#^[^/]*\(/.*\)/lib/python[^/]*/[a-z]*-packages/ray/_raylet[.].*$#\1/bin/python#p' "/proc/$PPID/maps" 2>/dev/null | head -n 1)
if [ "$order" = path ]; then
  set -- python python3 "$own" -- "$@"
else
  set -- "$own" python python3 -- "$@"
fi
while [ "$1" != -- ]; do
  python=$1
  shift
  [ -n "$python" ] || continue
  if "$python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("ray") and u.find_spec("rayline")))' 2>/dev/null
  then
    while [ "$1" != -- ]; do shift; done
    shift
    exec "$python" -m rayline.cli.job_driver "$@"
  fi
done
echo "no Python on this node has both ray and rayline: asked ${own:-none beside Ray}, then python and python3 on PATH=$PATH." >&2
echo "Install rayline in the cluster's image, or submit with --env FILE, a lock file that names it." >&2
exit 3
