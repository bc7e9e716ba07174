/* SPDX-License-Identifier: MIT */
/* Datagrams of other processes of this host, and whose they are. */
#include "api.h"

#include <unistd.h>

/* One is kept, where one is expected. The kernel closes those for which there is no room: by its alignment
 * there may be some for more than one. */
static void datagram_passed(const struct cmsghdr *c, int *passed)
{
    const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (n == 1 && passed && *passed < 0)
            *passed = fd;
        else
            close(fd);
    }
}

static void datagram_control(struct msghdr *msg, struct ucred *who, int *passed)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof *who))
            memcpy(who, CMSG_DATA(c), sizeof *who);
        else if (c->cmsg_type == SCM_RIGHTS)
            datagram_passed(c, passed);
    }
}

NQ_PRIVATE ssize_t nq_hints_read(int fd, void *hint, size_t size, nq_hint_from *from, int *passed)
{
    union {
        char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {hint, size};
    struct msghdr msg = {.msg_name = &from->at,
                         .msg_namelen = sizeof from->at,
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control - (passed ? 0 : CMSG_SPACE(sizeof(int)))};
    struct ucred who = {0, (uid_t)-1, (gid_t)-1};
    if (passed)
        *passed = -1;
    const ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return n;
    datagram_control(&msg, &who, passed);
    from->stranger = who.uid != 0 && who.uid != geteuid();
    from->size = msg.msg_namelen;
    return n;
}
