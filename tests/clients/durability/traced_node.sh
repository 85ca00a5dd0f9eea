#!/bin/sh
# Stands in for the program under start_node.py: `serve` runs under strace, which writes what the node reads, writes and syncs to the
# file that NODE_TRACE names; every other command runs as it is. NODE_PROGRAM names the program.
case $1 in
serve)
    # Signals go to the node and not to strace: a stop must end the node in order, and its tracer with it.
    exec strace -D -f -yy -qq -s 0 -e trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fdatasync,fsync \
        -o "$NODE_TRACE" "$NODE_PROGRAM" "$@"
    ;;
*)
    exec "$NODE_PROGRAM" "$@"
    ;;
esac
