#!/usr/bin/env bash
# Run a command with a throw-away PostgreSQL server, whose URL is in FAMILIAR_TEST_POSTGRES:
#
#     tests/postgres.sh .venv/bin/pytest tests/store
#
# The server listens on a Unix socket in a temporary folder only. It is stopped and removed when the command ends,
# whose exit status this is. As root, the server runs as the user postgres, since it refuses to run as root.
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: tests/postgres.sh COMMAND [ARGUMENT...]" >&2
    exit 2
fi

binaries=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
if [ ! -x "$binaries/initdb" ]; then
    initdb=$(command -v initdb || true)
    binaries=${initdb%/initdb}
fi
if [ ! -x "$binaries/initdb" ]; then
    echo "There is no PostgreSQL server here. On Debian and Ubuntu install it with: apt install postgresql" >&2
    exit 1
fi

as_server=()
if [ "$(id -u)" -eq 0 ]; then
    if ! id postgres >/dev/null 2>&1; then
        echo "PostgreSQL does not run as root, and there is no user postgres here. Run this as another user." >&2
        exit 1
    fi
    as_server=(runuser -u postgres --)
fi

folder=$(mktemp -d -t familiar-pg.XXXXXX)
stop() {
    if [ -f "$folder/data/postmaster.pid" ]; then
        (cd "$folder" && "${as_server[@]}" "$binaries/pg_ctl" stop --pgdata "$folder/data" --mode immediate --silent) || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$(id -u)" -eq 0 ]; then chown postgres "$folder"; fi
cd "$folder"  # a folder that the server's user may be in
"${as_server[@]}" "$binaries/initdb" --pgdata "$folder/data" --username familiar --auth trust --encoding UTF8 \
    --locale C --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
# Without fsync: nothing here outlives the command.
"${as_server[@]}" "$binaries/pg_ctl" start --pgdata "$folder/data" --log "$folder/data/log" --silent --wait \
    --options "-c listen_addresses='' -c unix_socket_directories='$folder' -c fsync=off -c full_page_writes=off" \
    || { cat "$folder/data/log" >&2; exit 1; }
cd "$OLDPWD"

export FAMILIAR_TEST_POSTGRES="postgresql+psycopg://familiar@/postgres?host=$folder"
echo "FAMILIAR_TEST_POSTGRES=$FAMILIAR_TEST_POSTGRES" >&2
"$@"
