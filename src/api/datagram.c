/* SPDX-License-Identifier: MIT */
/* Datagrams of other processes of this host, and whose they are. */
#include "api.h"

#include <unistd.h>

NQ_PRIVATE ssize_t nq_hints_read(int fd, void *hint, size_t size, nq_hint_from *from)
{
    union {
        char space[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {hint, size};
    struct msghdr msg = {.msg_name = &from->at,
                         .msg_namelen = sizeof from->at,
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    const ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return n;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    struct ucred who = {0, (uid_t)-1, (gid_t)-1};
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
        c->cmsg_len == CMSG_LEN(sizeof who))
        memcpy(&who, CMSG_DATA(c), sizeof who);
    from->stranger = who.uid != 0 && who.uid != geteuid();
    from->size = msg.msg_namelen;
    return n;
}
