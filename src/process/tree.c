/* SPDX-License-Identifier: MIT */
/* What a process has started, found in /proc by system calls alone: who asks may have been forked from a
 * process with threads, and then neither malloc nor stdio nor opendir is safe. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.h"

#define TREE_PROCESSES 32768 /* of the whole machine, looked at; more are not found */

/* One process looks at a time: a keeper and a zygote have one thread each. */
static struct tree_process {
    pid_t pid, parent;
    bool below;
} tree_processes[TREE_PROCESSES];

/* The parent of a process, or 0. */
static pid_t tree_parent(pid_t pid)
{
    char path[32] = "/proc/", digits[12], text[512];
    size_t at_path = 6, ndigits = 0;
    for (pid_t left = pid; left > 0; left /= 10)
        digits[ndigits++] = (char)('0' + left % 10);
    while (ndigits > 0)
        path[at_path++] = digits[--ndigits];
    memcpy(path + at_path, "/stat", 6);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* pid (name) state parent ...: the name may hold anything, also a parenthesis. */
    const char *at = strrchr(text, ')');
    return at && strlen(at) > 4 ? (pid_t)strtol(at + 4, NULL, 10) : 0;
}

/* List all processes. */
static size_t tree_list(void)
{
    struct entry { /* linux_dirent64 */
        uint64_t ino;
        int64_t off;
        unsigned short size;
        unsigned char type;
        char name[];
    };
    _Alignas(struct entry) char chunk[8192];
    const int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 0;
    long got;
    while (fd >= 0 && (got = syscall(SYS_getdents64, fd, chunk, sizeof chunk)) > 0) {
        for (long at = 0; at < got;) {
            const struct entry *e = (const struct entry *)(const void *)(chunk + at);
            const pid_t pid = e->name[0] >= '1' && e->name[0] <= '9' ? (pid_t)strtol(e->name, NULL, 10) : 0;
            at += e->size;
            if (pid > 0 && n < TREE_PROCESSES)
                tree_processes[n++] = (struct tree_process){pid, tree_parent(pid), false};
        }
    }
    if (fd >= 0)
        close(fd);
    return n;
}

NQ_PRIVATE size_t nq_tree_signal(pid_t root, int number)
{
    const size_t n = tree_list();
    size_t reached = 0;
    for (bool grew = true; grew;) {
        grew = false;
        for (size_t i = 0; i < n; i++) {
            struct tree_process *p = &tree_processes[i];
            bool below = p->parent == root;
            for (size_t k = 0; k < n && !below && !p->below; k++)
                below = tree_processes[k].below && tree_processes[k].pid == p->parent;
            grew = grew || (below && !p->below);
            p->below = p->below || below;
        }
    }
    for (size_t i = 0; i < n; i++)
        reached += tree_processes[i].below && kill(tree_processes[i].pid, number) == 0;
    return reached;
}

NQ_PRIVATE size_t nq_tree_children(pid_t *out, size_t max)
{
    const pid_t self = getpid();
    char chunk[4096];
    ssize_t got;
    size_t n = 0;
    pid_t pid = 0;
    /* The kernel's own list, where it is built to keep one. */
    const int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (got = read(fd, chunk, sizeof chunk)) > 0)
        for (ssize_t i = 0; i < got; i++) {
            const bool digit = chunk[i] >= '0' && chunk[i] <= '9';
            if (digit)
                pid = pid * 10 + (chunk[i] - '0');
            else if (pid > 0 && n < max)
                out[n++] = pid;
            pid = digit ? pid : 0;
        }
    if (fd >= 0) {
        close(fd);
        return n;
    }
    const size_t all = tree_list();
    for (size_t i = 0; i < all && n < max; i++)
        if (tree_processes[i].parent == self)
            out[n++] = tree_processes[i].pid;
    return n;
}
