/* SPDX-License-Identifier: MIT */
/* The terminal of nanoq top: taken, given back however the program ends, and what comes of it. */
#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "top.h"

#include <term.h> /* last: it makes macros of plain words */

/* Signals write their number to the pipe; the reader of the database writes 'n'. */
static struct {
    int pipe[2];
    bool taken;
    struct termios before;
    char leave[256]; /* what the terminal has to be sent when nothing else can be done any more */
    size_t nleave;
    int signal;
} top_terminal;

static void top_heard(int number)
{
    const int saved = errno;
    const char byte = (char)number;
    const ssize_t n = write(top_terminal.pipe[1], &byte, 1);
    (void)n; /* full: then there is more than enough to be read */
    errno = saved;
}

/* Async-signal-safe: of a crash, and of an end without memory. */
static void top_give_back(void)
{
    if (!top_terminal.taken)
        return;
    const ssize_t n = write(STDOUT_FILENO, top_terminal.leave, top_terminal.nleave);
    (void)n;
    tcsetattr(STDIN_FILENO, TCSANOW, &top_terminal.before);
    top_terminal.taken = false;
}

static void top_crashed(int number)
{
    top_give_back();
    raise(number); /* as it was to be: the handler is gone (SA_RESETHAND) */
}

static void top_signals(void)
{
    static const int heard[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = top_heard, .sa_flags = SA_RESTART};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof heard / sizeof heard[0]; i++) {
        sigaction(heard[i], &action, NULL);
        sigaddset(&set, heard[i]);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* who started us may have blocked them */
    action = (struct sigaction){.sa_handler = top_crashed, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++)
        sigaction(crashes[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The terminal's own sequences for the end: of attributes, the cursor, the alternate screen. */
static void top_remember(void)
{
    static const char *const names[] = {"sgr0", "cnorm", "rmkx", "rmcup"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[8];
        snprintf(name, sizeof name, "%s", names[i]);
        const char *sequence = tigetstr(name);
        const size_t n = sequence && sequence != (char *)-1
                             ? strlen(sequence)
                             : 0; // NOLINT(performance-no-int-to-ptr): the interface
        if (n == 0 || n > sizeof top_terminal.leave - top_terminal.nleave)
            continue;
        memcpy(top_terminal.leave + top_terminal.nleave, sequence, n);
        top_terminal.nleave += n;
    }
}

static bool top_is_known(const char *term)
{
    int found = 0;
    if (setupterm(term, STDOUT_FILENO, &found) != OK)
        return false;
    del_curterm(cur_term); /* newterm makes its own */
    return true;
}

static void top_modes(void)
{
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    set_escdelay(50);
    curs_set(0);
}

bool top_terminal_start(void)
{
    const char *term = getenv("TERM");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
        tcgetattr(STDIN_FILENO, &top_terminal.before) != 0) {
        cli_complain("stdin and stdout are no terminal; for others there is: nanoq stats --watch");
        return false;
    }
    if (pipe2(top_terminal.pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        cli_complain("cannot make a pipe");
        return false;
    }
    top_signals(); /* before curses, which takes what nobody has */
    if (!term || !top_is_known(term) || !newterm(NULL, stdout, stdin)) {
        cli_complain("the terminal '%s' (TERM) is not known here; for any there is: nanoq stats --watch",
                     term ? term : "");
        return false;
    }
    top_remember();
    top_terminal.taken = true;
    cli.leave = top_give_back;
    top_modes();
    if (has_colors() && !getenv("NO_COLOR")) {
        start_color();
        use_default_colors();
        init_pair(1, COLOR_RED, -1);
        init_pair(2, COLOR_CYAN, -1);
    }
    return true;
}

void top_terminal_end(void)
{
    if (!top_terminal.taken)
        return;
    endwin();
    tcsetattr(STDIN_FILENO, TCSANOW, &top_terminal.before);
    top_terminal.taken = false;
}

int top_terminal_wake(void)
{
    return top_terminal.pipe[1];
}

int top_terminal_signal(void)
{
    return top_terminal.signal;
}

static void top_resized(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
        resizeterm(size.ws_row, size.ws_col);
    clearok(stdscr, TRUE);
}

/* Ctrl-Z: the whole process stops, and with it all reading. */
static void top_stop(void)
{
    endwin();
    tcsetattr(STDIN_FILENO, TCSANOW, &top_terminal.before);
    signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP);
    struct sigaction action = {.sa_handler = top_heard, .sa_flags = SA_RESTART};
    sigaction(SIGTSTP, &action, NULL);
    refresh();
    top_modes();
    top_resized();
}

static enum top_event top_byte(int byte)
{
    switch (byte) {
    case 'n':
        return TOP_NEWS;
    case SIGTSTP:
        top_stop();
        return TOP_NEWS;
    case SIGCONT: /* perhaps of a SIGSTOP, after which the shell has changed the modes */
        top_modes();
        top_resized();
        return TOP_NEWS;
    case SIGWINCH:
        top_resized();
        return TOP_NEWS;
    default:
        top_terminal.signal = byte;
        return TOP_END;
    }
}

enum top_event top_terminal_wait(int64_t most_us, int *key)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = top_terminal.pipe[0], .events = POLLIN}};
    *key = getch(); /* what curses has read already */
    if (*key != ERR)
        return *key == KEY_RESIZE ? TOP_NEWS : TOP_KEY;
    if (poll(fds, 2, (int)(most_us / 1000)) <= 0)
        return TOP_NOTHING;
    char byte;
    if (fds[1].revents != 0 && read(top_terminal.pipe[0], &byte, 1) == 1)
        return top_byte(byte);
    if (fds[0].revents == 0)
        return TOP_NOTHING;
    if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) { /* the terminal is gone */
        top_terminal.signal = SIGHUP;
        return TOP_END;
    }
    *key = getch();
    return *key == ERR ? TOP_NOTHING : *key == KEY_RESIZE ? TOP_NEWS : TOP_KEY;
}
