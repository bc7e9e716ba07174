/* SPDX-License-Identifier: MIT */
/* What a process has started, found in /proc by system calls alone: who asks may have been forked from a
 * process with threads, and then neither malloc nor stdio nor opendir is safe. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.h"

#define TREE_PROCESSES 32768 /* of the whole machine, looked at; more are not found */

/* A process, and its parent; both 0: there is none. */
struct tree_process {
    pid_t pid, parent;
    unsigned long long started; /* since boot, in ticks: with the number it names a process for good */
    bool below;
};

/* One process looks at a time: a keeper and a zygote have one thread each. */
static struct tree_process tree_processes[TREE_PROCESSES];
static size_t tree_n;

static struct tree_process tree_read(pid_t pid)
{
    struct tree_process p = {.pid = 0};
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
        return p;
    text[n] = '\0';
    /* pid (name) state parent ..., the start the 20th behind the name, which may hold anything, also a
     * parenthesis. */
    const char *at = strrchr(text, ')');
    if (!at || strlen(at) <= 4)
        return p;
    p.pid = pid;
    p.parent = (pid_t)strtol(at + 4, NULL, 10);
    for (int field = 0; field < 20 && at; field++)
        at = strchr(at + 1, ' ');
    p.started = at ? strtoull(at, NULL, 10) : 0;
    return p;
}

/* List all processes. */
static void tree_list(void)
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
    long got;
    tree_n = 0;
    while (fd >= 0 && (got = syscall(SYS_getdents64, fd, chunk, sizeof chunk)) > 0) {
        for (long at = 0; at < got;) {
            const struct entry *e = (const struct entry *)(const void *)(chunk + at);
            const pid_t pid = e->name[0] >= '1' && e->name[0] <= '9' ? (pid_t)strtol(e->name, NULL, 10) : 0;
            at += e->size;
            if (pid > 0 && tree_n < TREE_PROCESSES)
                tree_processes[tree_n++] = tree_read(pid);
        }
    }
    if (fd >= 0)
        close(fd);
}

NQ_PRIVATE size_t nq_tree_find(pid_t root)
{
    size_t found = 0, before;
    tree_list();
    do {
        before = found;
        for (size_t i = 0; i < tree_n; i++) {
            struct tree_process *p = &tree_processes[i];
            bool below = p->parent == root;
            for (size_t k = 0; k < tree_n && !below && !p->below; k++)
                below = tree_processes[k].below && tree_processes[k].pid == p->parent;
            found += below && !p->below;
            p->below = p->below || below;
        }
    } while (found > before);
    return found;
}

/*
 * One that has ended, and was waited for, gives its number to another process, or to a thread of one: kill(2)
 * takes these as well. What the descriptor stands for stays the same, whatever becomes of the number, so it
 * is opened before the start is compared.
 */
static bool tree_send(const struct tree_process *p, int number)
{
    const int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    /* Linux before 5.3, or no descriptor left: then what remains is a moment. */
    const bool old = fd < 0 && errno != ESRCH && errno != EINVAL;
    const struct tree_process now = fd >= 0 || old ? tree_read(p->pid) : (struct tree_process){.pid = 0};
    bool sent = false;
    if (now.pid != 0 && now.started == p->started)
        sent = (old ? kill(p->pid, number) : (int)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0)) == 0;
    if (fd >= 0)
        close(fd);
    return sent;
}

NQ_PRIVATE size_t nq_tree_send(int number)
{
    size_t reached = 0;
    for (size_t i = 0; i < tree_n; i++)
        reached += tree_processes[i].below && tree_send(&tree_processes[i], number);
    return reached;
}

NQ_PRIVATE size_t nq_tree_signal(pid_t root, int number)
{
    return nq_tree_find(root) ? nq_tree_send(number) : 0;
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
    tree_list();
    for (size_t i = 0; i < tree_n && n < max; i++)
        if (tree_processes[i].parent == self)
            out[n++] = tree_processes[i].pid;
    return n;
}
