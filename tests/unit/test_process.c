/* SPDX-License-Identifier: MIT */
/* What both keepers of processes share. */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/process/process.h"
#include "unit.h"

static const char *words(nq_ending e, bool use)
{
    static char out[NQ_ENDING_WORDS];
    nq_ending_words(&e, use, out);
    return out;
}

START_TEST(ends_are_said_in_words)
{
    ck_assert_str_eq(words((nq_ending){.exited = true, .status = 3}, false), "exit status 3");
    ck_assert_str_eq(words((nq_ending){.status = SIGSEGV}, false), "killed by signal 11 (SIGSEGV)");
    ck_assert_str_eq(words((nq_ending){.status = SIGRTMIN + 20}, false), "killed by signal 54 (no name)");
    ck_assert_str_eq(words((nq_ending){.status = SIGXCPU, .cpu_us = 1234567, .peak_bytes = 12400000}, true),
                     "killed by signal 24 (SIGXCPU: CPU time limit) after 1.23 s of CPU, 12 MB");
    ck_assert_str_eq(words((nq_ending){.exited = true, .cpu_us = 123456789}, true),
                     "exit status 0 after 123 s of CPU, 0 MB");
    ck_assert_uint_lt(
        strlen(words((nq_ending){.status = INT32_MIN, .cpu_us = INT64_MAX, .peak_bytes = INT64_MAX - 500000},
                     true)),
        NQ_ENDING_WORDS - 1);
}
END_TEST

START_TEST(an_end_is_read_from_wait)
{
    struct rusage used;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    ck_assert_int_eq(wait4(pid, &status, 0, &used), pid);
    nq_ending e = nq_ending_of(status, &used);
    ck_assert(e.exited && e.status == 7 && e.cpu_us >= 0 && e.peak_bytes > 0);
    pid = fork();
    if (pid == 0) {
        raise(SIGKILL);
        _exit(0);
    }
    ck_assert_int_eq(wait4(pid, &status, 0, &used), pid);
    e = nq_ending_of(status, &used);
    ck_assert(!e.exited && e.status == SIGKILL);
}
END_TEST

static const char *tailed(size_t size, const char *parts[], const char *before, size_t room)
{
    static char out[256];
    char bytes[64];
    nq_tail t = {.bytes = bytes, .size = size};
    for (size_t i = 0; parts[i]; i++)
        nq_tail_add(&t, parts[i], strlen(parts[i]));
    nq_tail_text(&t, before, out, room);
    return out;
}

START_TEST(the_last_is_kept)
{
    ck_assert_str_eq(tailed(8, (const char *[]){NULL}, "it ended", 256), "it ended");
    ck_assert_str_eq(tailed(8, (const char *[]){" \n", NULL}, "it ended", 256), "it ended");
    ck_assert_str_eq(tailed(0, (const char *[]){"kept by nobody", NULL}, "it ended", 256), "it ended");
    ck_assert_str_eq(tailed(8, (const char *[]){"abc", "def\n", NULL}, "e", 256), "e: abcdef");
    ck_assert_str_eq(tailed(8, (const char *[]){"abc", "defgh", "ij", NULL}, "e", 256), "e: cdefghij");
    ck_assert_str_eq(tailed(4, (const char *[]){"0123456789", "ab", NULL}, "e", 256), "e: 89ab");
    /* What is cut is the start, and never in the middle of a character. */
    ck_assert_str_eq(tailed(16, (const char *[]){"0123456789", NULL}, "e", 10), "e: 456789");
    ck_assert_str_eq(tailed(3, (const char *[]){"\xc3\xa4\xc3\xb6", NULL}, "e", 256), "e: \xc3\xb6");
    /* The database keeps text. */
    ck_assert_str_eq(tailed(16, (const char *[]){"a\xff\xc3", NULL}, "e", 256), "e: a??");
    /* No room at all. */
    ck_assert_str_eq(tailed(16, (const char *[]){"abc", NULL}, "0123456789", 8), "0123456");
}
END_TEST

START_TEST(the_ladder_has_two_steps)
{
    nq_ladder l = {0};
    ck_assert_int_eq(nq_ladder_step(&l, 1), 0);
    ck_assert_int_eq(nq_ladder_next(&l), INT64_MAX);
    nq_ladder_begin(&l, 100, 200, 50);
    nq_ladder_begin(&l, 1, 2, 3); /* changes nothing */
    ck_assert_int_eq(nq_ladder_next(&l), 100);
    ck_assert_int_eq(nq_ladder_step(&l, 99), 0);
    ck_assert_int_eq(nq_ladder_step(&l, 100), SIGTERM);
    ck_assert_int_eq(nq_ladder_next(&l), 200);
    ck_assert_int_eq(nq_ladder_step(&l, 199), 0);
    ck_assert_int_eq(nq_ladder_step(&l, 230), SIGKILL);
    ck_assert_int_eq(nq_ladder_step(&l, 279), 0);
    ck_assert_int_eq(nq_ladder_step(&l, 280), SIGKILL);
    ck_assert_uint_eq(l.kills, 2);
}
END_TEST

/* A child whose own child has a session of its own: neither group nor session finds it. */
START_TEST(descendants_are_found_in_any_session)
{
    int pipes[2];
    pid_t grandchild = 0, found[8], left;
    int status;
    ck_assert_int_eq(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
        const pid_t own = fork();
        if (own == 0) {
            setsid();
            const pid_t self = getpid();
            if (write(pipes[1], &self, sizeof self) != sizeof self)
                _exit(1);
            for (;;)
                pause();
        }
        waitpid(own, &status, 0);
        _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    ck_assert_int_eq(read(pipes[0], &grandchild, sizeof grandchild), sizeof grandchild);
    ck_assert_uint_eq(nq_tree_children(found, 8), 1);
    ck_assert_int_eq(found[0], child);
    ck_assert_uint_eq(nq_tree_children(found, 0), 0);
    ck_assert_uint_eq(nq_tree_signal(grandchild, SIGKILL), 0);
    ck_assert_uint_eq(nq_tree_signal(child, SIGKILL), 1); /* not the child itself */
    left = waitpid(child, &status, 0);
    ck_assert_int_eq(left, child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == SIGKILL);
    ck_assert_uint_eq(nq_tree_signal(getpid(), SIGKILL), 0);
}
END_TEST

static _Noreturn void process_pauses(void)
{
    for (;;)
        pause();
}

/* A child under a number that is free; -1 where the kernel does not let us choose it, or it is taken again.
 */
static pid_t process_fork_as(pid_t number)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&number, .set_tid_size = 1};
    const pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        process_pauses();
    return pid;
}

static void process_end(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* Between the look and the signal one ends, and another gets its number: not it was meant. */
START_TEST(who_has_got_the_number_of_one_that_ended_is_left_alone)
{
    const pid_t child = fork();
    if (child == 0)
        process_pauses();
    ck_assert_uint_eq(nq_tree_find(getpid()), 1);
    process_end(child);
    usleep(50 * 1000); /* starts are told apart by the ticks of a clock */
    const pid_t other = process_fork_as(child);
    if (other < 0) {
        fprintf(stderr, "skipped: no number can be chosen: %s\n", strerror(errno));
        return;
    }
    ck_assert_int_eq(other, child);
    ck_assert_uint_eq(nq_tree_send(SIGKILL), 0);
    ck_assert_int_eq(waitpid(other, NULL, WNOHANG), 0);
    ck_assert_uint_eq(nq_tree_signal(getpid(), 0), 1);
    process_end(other);
}
END_TEST

START_TEST(the_last_packet_is_heard_of_who_left_ours_unread)
{
    int pair[2];
    char out[8];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    ck_assert_int_eq(send(pair[0], "stop", 4, 0), 4);
    ck_assert_int_eq(send(pair[1], "ended", 5, 0), 5);
    close(pair[1]);
    ck_assert_int_eq(nq_packet_receive(pair[0], out, sizeof out, 0), 5);
    ck_assert_int_eq(memcmp(out, "ended", 5), 0);
    ck_assert_int_eq(nq_packet_receive(pair[0], out, sizeof out, 0), 0);
    close(pair[0]);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    ck_assert_int_eq(nq_packet_receive(pair[0], out, sizeof out, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

/* Of a limit that valgrind leaves to the kernel: it lowers no hard limit of open files. */
START_TEST(limits_are_lowered_and_not_raised)
{
    struct rlimit r;
    ck_assert_int_eq(nq_rlimit_lower(RLIMIT_MSGQUEUE, 100, false), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_MSGQUEUE, &r), 0);
    ck_assert(r.rlim_cur == 100 && r.rlim_max > 100);
    ck_assert_int_eq(nq_rlimit_lower(RLIMIT_MSGQUEUE, 90, true), 0);
    ck_assert_int_eq(nq_rlimit_lower(RLIMIT_MSGQUEUE, 200, true), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_MSGQUEUE, &r), 0);
    ck_assert(r.rlim_cur == 90 && r.rlim_max == 90);
    nq_rlimit_no_core();
    ck_assert_int_eq(getrlimit(RLIMIT_CORE, &r), 0);
    ck_assert_uint_eq(r.rlim_cur, 0);
    ck_assert_int_eq(nq_rlimit_cpu(0, 5000000), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_CPU, &r), 0);
    ck_assert(r.rlim_cur >= 5 && r.rlim_cur < 60);
    const pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(gone, NULL, 0), gone);
    ck_assert_int_eq(nq_rlimit_cpu(gone, 5000000), -1);
}
END_TEST

UNIT_MAIN("process", ends_are_said_in_words, an_end_is_read_from_wait, the_last_is_kept,
          the_ladder_has_two_steps, descendants_are_found_in_any_session,
          who_has_got_the_number_of_one_that_ended_is_left_alone,
          the_last_packet_is_heard_of_who_left_ours_unread, limits_are_lowered_and_not_raised)
