#!/bin/sh
# Stands in for the program under start_node.py: `serve` runs under strace, which writes what the node reads, writes and syncs to the
# file that NODE_TRACE names, with so much of each that the header of a frame of the journal is whole; every other command runs as it is.
# NODE_PROGRAM names the program.
case $1 in
serve)
    # Signals go to the node and not to strace: a stop must end the node in order, and its tracer with it.
    exec strace -D -f -yy -qq -s 80 -x -e trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fdatasync,fsync \
        -o "$NODE_TRACE" "$NODE_PROGRAM" "$@"
    ;;
*)
    exec "$NODE_PROGRAM" "$@"
    ;;
esac
