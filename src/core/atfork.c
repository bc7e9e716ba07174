/* SPDX-License-Identifier: MIT */
/* Descriptors that a child of fork must not keep alive: those whose last close tells others of our death. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"

/*
 * A lock on a file, and a session on a server with its locks, live as long as any descriptor of them. A host
 * that forks without exec would leave them to its child, and its death would not be seen until the child has
 * ended too. So in the child /dev/null takes their place: the numbers stay in use, and are never another
 * file.
 */

/* Guards the list; held across a fork, so that the child finds it whole. */
static pthread_mutex_t atfork_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t atfork_once = PTHREAD_ONCE_INIT;
static struct atfork_place {
    uint64_t ticket;
    int fd;
    dev_t dev; /* with ino what it is: a client library closes its socket by itself, and the number is used
                  anew */
    ino_t ino;
} * atfork_places;
static size_t atfork_n, atfork_cap;
static uint64_t atfork_tickets;

static void atfork_lock(void)
{
    pthread_mutex_lock(&atfork_mutex);
}

static void atfork_unlock(void)
{
    pthread_mutex_unlock(&atfork_mutex);
}

/* Nothing but system calls: other threads of the parent may have held any lock of the C library's. */
static void atfork_child(void)
{
    const int null = atfork_n ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    for (size_t i = 0; i < atfork_n; i++) {
        const struct atfork_place *p = &atfork_places[i];
        struct stat st;
        if (fstat(p->fd, &st) != 0 || st.st_dev != p->dev || st.st_ino != p->ino)
            continue;
        if (null < 0 || dup3(null, p->fd, O_CLOEXEC) < 0)
            close(p->fd);
    }
    if (null >= 0)
        close(null);
    atfork_n = 0;
    pthread_mutex_unlock(&atfork_mutex);
}

static void atfork_register(void)
{
    (void)pthread_atfork(atfork_lock, atfork_unlock, atfork_child);
}

NQ_PLUG_IN uint64_t nq_fork_leaves(int fd)
{
    uint64_t ticket = 0;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return 0;
    pthread_once(&atfork_once, atfork_register);
    atfork_lock();
    struct atfork_place *more = nq_grow(atfork_places, atfork_n, &atfork_cap, sizeof *more);
    if (more) {
        atfork_places = more;
        ticket = ++atfork_tickets;
        atfork_places[atfork_n++] = (struct atfork_place){ticket, fd, st.st_dev, st.st_ino};
    }
    atfork_unlock();
    return ticket;
}

NQ_PLUG_IN void nq_fork_forgets(uint64_t ticket)
{
    atfork_lock();
    for (size_t i = 0; i < atfork_n; i++)
        if (atfork_places[i].ticket == ticket) {
            atfork_places[i] = atfork_places[--atfork_n];
            break;
        }
    if (atfork_n == 0) {
        free(atfork_places);
        atfork_places = NULL;
        atfork_cap = 0;
    }
    atfork_unlock();
}
