/* SPDX-License-Identifier: MIT */
/* Hearing the other end of a pair of sockets that may have ended. */
#include <errno.h>
#include <sys/socket.h>

#include "process.h"

NQ_PRIVATE ssize_t nq_packet_receive(int fd, void *out, size_t size, int flags)
{
    ssize_t n;
    do
        n = recv(fd, out, size, flags);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    return n;
}
