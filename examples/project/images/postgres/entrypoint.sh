#!/bin/sh
# Makes a database where there is none, and becomes postgres. Arguments are postgres's.
set -eu
chown postgres:postgres "$PGDATA"
chmod 700 "$PGDATA"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    # Made beside, and moved with its version last: a start that was interrupted begins anew.
    rm -rf "$PGDATA/new"
    as_postgres initdb --pgdata="$PGDATA/new" --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    for network in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do
        echo "host all all $network trust" >>"$PGDATA/new/pg_hba.conf"
    done
    for thing in "$PGDATA"/new/*; do
        name=${thing##*/}
        [ "$name" = PG_VERSION ] && continue
        rm -rf "${PGDATA:?}/$name"
        mv "$thing" "$PGDATA/$name"
    done
    mv "$PGDATA/new/PG_VERSION" "$PGDATA/PG_VERSION"
    rmdir "$PGDATA/new"
fi
mkdir -p /run/postgresql
chown postgres:postgres /run/postgresql
# Without the compiler that the image was trimmed of.
exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
    postgres -D "$PGDATA" -c listen_addresses='*' -c jit=off -c unix_socket_directories=/run/postgresql "$@"
