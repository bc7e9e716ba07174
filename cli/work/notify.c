/* SPDX-License-Identifier: MIT */
/* Telling the service manager how we are: datagrams to the socket that it names. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../text/log.h"
#include "work.h"

/* The address, or false when there is none that can be used. */
static bool notify_address(struct sockaddr_un *to, socklen_t *size)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t n = name ? strlen(name) : 0;
    if (n < 2 || n >= sizeof to->sun_path || (name[0] != '/' && name[0] != '@'))
        return false;
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(to->sun_path, name, n);
    if (name[0] == '@') /* of the abstract namespace */
        to->sun_path[0] = '\0';
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return true;
}

bool notify_wanted(void)
{
    struct sockaddr_un to;
    socklen_t size;
    return notify_address(&to, &size);
}

void notify(const char *fmt, ...)
{
    static bool complained; /* one thread notifies */
    struct sockaddr_un to;
    socklen_t size;
    char text[512], buf[128];
    va_list args;
    if (!notify_address(&to, &size))
        return;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool sent = fd >= 0 && n > 0 &&
                sendto(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, MSG_NOSIGNAL,
                       (struct sockaddr *)&to, size) >= 0;
    if (!sent && !complained) {
        complained = true;
        log_line(LOG_WARN, "cannot notify the service manager: %s", strerror_r(errno, buf, sizeof buf));
    }
    if (fd >= 0)
        close(fd);
}

int64_t notify_watchdog_us(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!us || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    long long v = strtoll(us, NULL, 10);
    return v > 0 && v < NQ_MAX_DURATION ? (int64_t)v : 0;
}
