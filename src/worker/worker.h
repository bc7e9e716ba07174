/* SPDX-License-Identifier: MIT */
/* The worker's shared state, and what its threads ask of each other. */
#ifndef NQ_WORKER_H
#define NQ_WORKER_H

#include <stdatomic.h>
#include <sys/types.h>

#include "../api/api.h"
#include "handler.h"
#include "lines.h"

/*
 * Threads of a worker, and who queues whom:
 *
 *   fetcher     claims tasks                   -> ready list
 *   second      claims beside it, where batches are small and one claim after the other comes back full
 *   handlers    run them                       -> ended list, or the next claim's transaction
 *   completer   records what became of them
 *   watch       cancels attempts whose deadline passed
 *   duties      is the member: beats, watches the others, reclaims (-> ended list), purges; cancels what
 *               it is asked to, writes progress
 *   heart       beats where duties are held up
 *   wake, bell  listen for hints from other processes, and wake the fetcher or duties; both may be missing
 *
 * The thread in nq_worker_run starts them, waits for a stop and takes them down phase by phase.
 *
 * LOCK: one, nq_worker.lock. It is held for moves between lists and for cancelling, never across a call into
 * the store and never while code of the user's runs (handler, middleware, hook, policy, log), so that such
 * code may call every nq_ function. The wake hint takes it on the enqueuing thread, which holds no lock.
 */

enum nq_phase {
    NQ_PHASE_RUN,    /* claim and run */
    NQ_PHASE_STOP,   /* claim no more; running handlers may end */
    NQ_PHASE_RECORD, /* no handler runs that counts; what is left to record is recorded */
    NQ_PHASE_END     /* leave */
};

#define NQ_FETCHERS 2 /* most of them */

/* What the first fetcher waits for. */
enum nq_fetcher {
    NQ_FETCHER_BUSY, /* nothing: it claims; or something that no other thread brings about */
    NQ_FETCHER_FULL, /* a free thread, or outcomes to be recorded */
    NQ_FETCHER_IDLE  /* tasks */
};

/* Duties that other threads ask for, as bits. */
enum nq_wanted {
    NQ_WANTED_CANCELS = 1,  /* to check for requests to cancel */
    NQ_WANTED_PROMOTE = 2,  /* to promote follow-ups */
    NQ_WANTED_SETTINGS = 4, /* to read the settings of queues */
    NQ_WANTED_DOUBTS = 8    /* to look for tasks of loans in doubt */
};

#define NQ_MAX_CONCURRENCY    1024          /* handler threads */
#define NQ_DEFAULT_MANY       100           /* tasks of a call of a handler of several */
#define NQ_FINISH_MAX         1000          /* outcomes of one transaction */
#define NQ_UNRECORDED_MAX     1000          /* no claims while as many outcomes wait to be recorded */
#define NQ_PREFETCH_WINDOW_US NQ_MS(20)     /* prefetch what the handlers finish in this time */
#define NQ_HOLD_MAX_US        NQ_SECONDS(1) /* unstarted this long: given back */
#define NQ_HINTED_QUEUES      4             /* with more queues a hint rarely is for the one looked at */
#define NQ_FULL_CLAIMS        3             /* in a row: one fetcher cannot keep up */
#define NQ_PAUSE_MIN_US       NQ_MS(5)      /* first sleep of the fetcher after work */
#define NQ_THROTTLED_US       NQ_MS(50)     /* longest sleep while a limit of all hosts is reached */
#define NQ_PIGGYBACK_WAIT_US  NQ_MS(5)      /* completions wait no longer than this for a claim */

/* One task held by this worker, and the context of its attempt. */
struct nq_page; /* isolate.h */
struct nq_ctx {
    nq_ctx *next; /* in the ready or the ended list, or pipelined */
    nq_worker *worker;
    struct nq_worker_queue *limited; /* the queue in whose limit it counts; NULL: in none, or no more */
    const struct nq_handler_entry *handler; /* NULL: no handler */
    uint64_t seq;                           /* of the frame that took it to a child */
    const struct nq_page *page;             /* in a child: where its cause is; else NULL */
    nq_claimed *claim;
    nq_outcome out;
    int64_t held_us; /* monotonic time of the claim */
    /* For on_event; the times are monotonic, and 0 when it did not begin, or end, here. */
    atomic_int_least64_t begun_us, ended_us;
    int64_t waited_us;
    bool announced; /* as started */
    int64_t deadline_us;
    int64_t delay_us; /* of nq_ctx_set_delay; -1: not set */
    char *message;
    nq_buf result; /* of nq_ctx_result */
    bool has_result;
    nq_lines_of lines;
    nq_verdict verdict;              /* of the handler */
    bool completed;                  /* a call of nq_ctx_complete_in succeeded */
    _Atomic(nq_progress *) progress; /* the latest, to be freed by whoever takes it out */
    atomic_int cause;
    atomic_int fd;
    atomic_bool abandoned; /* released in the place of its handler, which still runs */
    bool unknown;          /* it piggybacked on a transaction whose outcome is unknown */
    atomic_uint refs;      /* the handler and the completer, when abandoned; else one */
    bool orphan;           /* of a dead worker: counted apart, */
    char *victim;          /* whose name this is; NULL: not known */
};

/* A queue as the fetcher sees it. */
struct nq_worker_queue {
    char name[NQ_MAX_QUEUE + 1];
    uint64_t hint; /* nq_hint_queue of it */
    /* Each fetcher's; NULL: there is no such fetcher. */
    nq_claimer *claimers[NQ_FETCHERS];
    unsigned concurrency;  /* most of its tasks in hand; 0: no limit */
    unsigned asked;        /* what the options say of it */
    unsigned in_hand;      /* those that are ready, sent to a child or running; not counted without a limit */
    bool paused;           /* nothing of it is claimed */
    int64_t held_until_us; /* nor before then */
    unsigned claiming;     /* those that claims under way may bring; the same */
    unsigned weight;
    int64_t credit;    /* nq_queue_turn's */
    int64_t next_us;   /* not before */
    int64_t pause_us;  /* between looks at an idle queue */
    int64_t wait_us;   /* of the last look: until the next due task, -1: none waits */
    bool throttled;    /* the last look found what is due at its limit, over all hosts */
    bool hands_on;     /* it has such a limit, and more to run: a task that ends makes room for the next */
    int64_t gather_us; /* until then it is claimed from when there is room for half of its concurrency */
    bool hinted;       /* something was enqueued, perhaps here */
    unsigned quiet;    /* empty looks in a row while nothing was held */
};

/* Trouble with the database: growing pauses, few log lines. Each thread has its own. */
struct nq_outage {
    int64_t pause_us; /* 0: no trouble */
    int64_t since_us, logged_us;
};

/* A producer in another process, and what was offered to it. */
struct nq_loan_borrower {
    nq_hint_from from; /* size 0: none */
    struct nq_worker_queue *queue;
    uint64_t lease; /* 0: nothing */
    int64_t until_us, heard_us;
};
#define NQ_LOAN_BORROWERS 8
/* A loan of which it is not known what becomes: the producer does not know it, or has yet to say so. */
struct nq_loan_doubt {
    uint64_t lease;
    struct nq_worker_queue *queue;
    int64_t since_us;
};
#define NQ_LOAN_DOUBTS 64
#define NQ_OWN_HOLDS   16

typedef struct nq_task_list {
    nq_ctx *head, **tail;
    size_t n;
    uint64_t bytes; /* of their payloads */
} nq_task_list;

/* A handler thread. */
struct nq_handler_thread {
    nq_worker *worker;
    nq_ctx *ctx;            /* what it runs, or NULL */
    nq_task_list pipelined; /* sent to its child besides, and not begun as far as is known */
    int wake_fd;            /* an eventfd on which the thread waits beside its child; -1: not made yet */
    pthread_t id;
    bool stuck;
    int64_t pause_us;    /* the last one for want of a child; 0: there was one */
    struct nq_many many; /* several tasks in one call: ctx is the first of them */
};

struct nq_worker {
    /* fixed before the threads start */
    nq *q;
    nq_store *store;
    nq_worker_options opts;
    pid_t pid;
    struct nq_handler_entry *handlers;
    size_t nhandlers, handlers_cap;
    nq_middleware *middleware;
    size_t nmiddleware, middleware_cap;
    struct nq_worker_queue *queues;
    size_t nqueues;
    struct nq_handler_thread *threads; /* opts.concurrency */
    const char **types;                /* known_types_only */
    uint64_t seq_max;                  /* NQ_LEASE_SEQ_MAX; less in tests */
    nq_listener listener;
    struct nq_listening *listening; /* may be NULL; of nq_worker_run */
    int wake_fd;                    /* wakes nq_worker_run */
    struct nq_tally *tally;         /* what was done */
    nq_lines lines;
    struct nq_zygote *zygote; /* NULL: no handler is isolated */

    atomic_uint refs; /* the owner and each handler thread */
    atomic_bool started;
    atomic_uint stops; /* calls of nq_worker_stop */
    atomic_bool hint;  /* something was enqueued since the fetcher looked */
    atomic_uint_least64_t claimed, done, retried, dead, snoozed, released, lease_lost, cancelled;
    atomic_uint running;
    atomic_uint lent;       /* claims that producers have, changed with the lock held */
    atomic_bool progressed; /* some context has progress that was not taken out */
    /* For nq_worker_silence_us: when duties last went round (0: not joined yet), and since when the fetcher
     * claims and the completer records (0: it does not). */
    atomic_int_least64_t live_us, claiming_us[NQ_FETCHERS], recording_us;

    pthread_mutex_t lock; /* guards what follows, and threads[].ctx, queues[].quiet, .in_hand, .claiming */
    pthread_cond_t fetch_cond, second_cond, ready_cond, done_cond, watch_cond, duties_cond, heart_cond,
        bell_cond, many_cond;
    enum nq_phase phase;
    nq_task_list ready, ended;
    nq_task_list paced;      /* wait for the time of their start, in order of it */
    nq_task_list piggybacks; /* plain completions that wait for the transaction of the next claim */
    bool piggybacking;       /* they do: there will be one soon */
    size_t unrecorded;       /* in the ended list, in piggybacks, or being recorded */
    size_t orphans;          /* of these */
    unsigned idle, paused;   /* handler threads that wait, and do so because no child can be made */
    unsigned gatherers;      /* and those that have tasks and wait for more, for one call; */
    size_t gathering;        /* for so many more, all of them */
    size_t joined;           /* tasks of calls beyond the first of each */
    size_t per_call;         /* how many the next call takes, by those before; 0: one */
    bool waking;             /* one of them was signalled and has not woken yet */
    bool completer_idle;
    uint64_t hint_queue; /* of the first hint since the fetcher looked, and the task that it names, or 0 */
    nq_id hint_id;
    enum nq_fetcher fetcher;
    bool bell_waits;     /* for it to do so */
    int64_t wrote_us;    /* when a claim or an outcome of ours was committed last */
    int64_t avg16_us;    /* 16 times the moving average of how long handlers take */
    int64_t watch_until; /* the watch thread sleeps until then */
    int64_t due_us;      /* an outcome of ours comes due then */
    int64_t batch_us;    /* since when the completer has tasks that are in no list; 0: it has none */
    int64_t give_up_us;  /* NQ_PHASE_RECORD: stop trying then */
    uint64_t member;     /* 0: not joined */
    int64_t member_us;   /* its nq_member_since_us */
    int64_t beat_us;     /* it beat last then */
    uint64_t seq;        /* of the last lease */
    bool rejoin;         /* leases are used up, or one is in doubt: as soon as nothing is held */
    bool reclaimed;      /* what dead workers had left when we joined */
    bool outrun;         /* others were ending all of those orphans that we ended last */
    uint64_t recorded;   /* outcomes, so far */
    uint64_t taken;      /* grows with each batch of tasks that is taken in, orphans included; from 1 */
    uint64_t swept;      /* the follow-ups were seen to when `taken` was this and nothing was held */
    nq_hold held[NQ_OWN_HOLDS]; /* by handlers of ours, which the settings may not say yet */
    atomic_bool keeps;          /* some queue's settings say how long its tasks are kept */
    nq_settings *settings; /* NULL: not read yet, and nothing is claimed before; changed by duties only */
    size_t ignored_told, misled_told; /* of bad rows no more are told again: of the duties' thread */
    unsigned wanted;                  /* enum nq_wanted: duties that are asked for */
    bool drained;
    /* Of claims: how many in a row were full, most tasks that each fetcher's under way may bring and by which
     * settings (their hash), and does the second one wait for a first one that cannot keep up? */
    unsigned full;
    size_t claiming[NQ_FETCHERS];
    uint64_t heeding[NQ_FETCHERS];
    bool second_waits;
    int loan_fd, answer_fd; /* -1: offers nothing to other processes */
    struct nq_loan_borrower borrowers[NQ_LOAN_BORROWERS];
    size_t nborrowers;
    struct nq_loan_doubt doubts[NQ_LOAN_DOUBTS];
    size_t ndoubts;
    size_t lost; /* outcomes that could not be recorded */
    nq_err lost_err;
};

/* ---- worker.c */
NQ_PRIVATE void nq_worker_unref(nq_worker *w);

/* ---- queues.c */
/* Read the options of the queues, or put the default in their place. */
NQ_PRIVATE int nq_queues_read(nq_worker *w, nq_err *err);
/* With the lock held: the queue that has the turn among those that may be asked; or NULL, and when one may.
 * *limited: one that may be asked is at its limit. */
NQ_PRIVATE struct nq_worker_queue *nq_queue_turn(nq_worker *w, int64_t now, int64_t *until, bool *limited);
/* With the lock held: for how many of its tasks a claim is made; and how many may be claimed. */
NQ_PRIVATE size_t nq_queue_least(const struct nq_worker_queue *queue, int64_t now);
static inline size_t nq_queue_room(const struct nq_worker_queue *queue)
{
    return queue->concurrency == 0 ? SIZE_MAX : queue->concurrency - queue->in_hand - queue->claiming;
}

/* ---- log.c */
NQ_PRIVATE void nq_worker_log(const nq_worker *w, enum nq_log_level level, const char *fmt, ...)
    NQ_PRINTF(3, 4);
/* A failure: log it now and then, return how long to pause (100 ms growing to 5 s). A success ends it. */
NQ_PRIVATE int64_t nq_outage_failed(const nq_worker *w, struct nq_outage *a, const char *what,
                                    const nq_err *err);
NQ_PRIVATE void nq_outage_ended(const nq_worker *w, struct nq_outage *a, const char *what);

/* ---- run.c: nq_worker_run */

/* ---- stop.c: nq_worker_stop */
/* Wake nq_worker_run. Async-signal-safe. */
NQ_PRIVATE void nq_worker_wake(nq_worker *w);
/* SIGINT and SIGTERM stop this worker, if its options say so; as they were, if it has them. */
NQ_PRIVATE int nq_signals_take(nq_worker *w, nq_err *err);
NQ_PRIVATE void nq_signals_give_back(nq_worker *w);

/* ---- context.c */
NQ_PRIVATE nq_ctx *nq_ctx_new(nq_worker *w);
NQ_PRIVATE void nq_ctx_claimed(nq_ctx *ctx, nq_claimed *claim, int64_t now_us);
NQ_PRIVATE void nq_ctx_unref(nq_ctx *ctx); /* accepts NULL */
/* With the lock held: the i-th attempt that the thread runs, from 0; NULL: it runs no more than i. */
static inline nq_ctx *nq_thread_attempt(const struct nq_handler_thread *thread, size_t i)
{
    return i == 0 ? thread->ctx : i < thread->many.n ? thread->many.ctx[i] : NULL;
}
/* With the lock held, of a context in a thread. */
NQ_PRIVATE void nq_ctx_cancel(nq_ctx *ctx, enum nq_cause cause);
NQ_PRIVATE void nq_ctx_close_fd(nq_ctx *ctx);
NQ_PRIVATE bool nq_ctx_has_message(const nq_ctx *ctx);
static inline bool nq_ctx_is(const nq_ctx *ctx, const nq_attempt *a)
{
    return ctx->claim->task.id == a->id && ctx->claim->lease == a->lease;
}

/* ---- many.c */
NQ_PRIVATE int nq_many_room(nq_worker *w, nq_err *err); /* for the calls of each thread, before they start */
NQ_PRIVATE void nq_many_free(nq_worker *w);
/* Run thread->ctx, whose handler takes several, with more like it. With the lock held, but for the call. */
NQ_PRIVATE void nq_many_run(struct nq_handler_thread *thread);

/* ---- dispatch.c */
/* Run the attempt and decide what becomes of it. */
NQ_PRIVATE void nq_dispatch(nq_ctx *ctx, nq_outcome *out);
/* Its two halves: the first runs in the child where the handler is isolated. */
NQ_PRIVATE nq_verdict nq_dispatch_run(nq_ctx *ctx);
/* What a handler answered; a number that is no verdict is a failure. */
NQ_PRIVATE nq_verdict nq_dispatch_checked(nq_ctx *ctx, nq_verdict verdict);
NQ_PRIVATE void nq_dispatch_verdict(nq_ctx *ctx, nq_verdict verdict, nq_outcome *out);
/* What becomes of a task whose child died under it; the message is set. */
NQ_PRIVATE void nq_dispatch_died(nq_ctx *ctx, nq_outcome *out);
/* The same once more, for an attempt that completed its task in a transaction which was not committed. */
NQ_PRIVATE void nq_dispatch_uncommitted(nq_ctx *ctx, nq_outcome *out);
/* Is it too late to begin? And what becomes of the task then. */
static inline bool nq_ctx_expired(const nq_ctx *ctx)
{
    return ctx->claim->expires_us && ctx->claim->expires_us <= nq_mono_us();
}
NQ_PRIVATE void nq_dispatch_expired(nq_ctx *ctx, nq_outcome *out);
/* What becomes of a task whose payload was not read. */
NQ_PRIVATE void nq_dispatch_unread(nq_ctx *ctx, nq_outcome *out);
/* What becomes of a task whose worker died. */
NQ_PRIVATE void nq_dispatch_crash(nq_ctx *ctx, nq_outcome *out);

/* ---- events.c: without the lock */
/* Its attempt begins; told once. */
NQ_PRIVATE void nq_event_started(nq_ctx *ctx);
/* What became of it is recorded, or (ours false) another has it. */
NQ_PRIVATE void nq_event_ended(nq_ctx *ctx, bool ours);

/* ---- handlers.c */
NQ_PRIVATE void *nq_handler_main(void *thread);
NQ_PRIVATE void *nq_watch_main(void *worker);

/* ---- board.c: the worker's state under its lock. It calls no file of the worker's but context.c. */
NQ_PRIVATE void nq_task_list_init(nq_task_list *l);
NQ_PRIVATE void nq_task_list_push(nq_task_list *l, nq_ctx *ctx);
NQ_PRIVATE nq_ctx *nq_task_list_pop(nq_task_list *l);
NQ_PRIVATE void nq_task_list_push_front(nq_task_list *l, nq_ctx *ctx); /* to the front */
/* The rest with the lock held. */
/* The timeout of an attempt, within bounds: plain SQL may have written anything. */
NQ_PRIVATE int64_t nq_timeout_of(const nq_task *task);
/* ctx is what the thread runs from now on. */
NQ_PRIVATE void nq_attempt_begin(struct nq_handler_thread *thread, nq_ctx *ctx);
/* ctx begins now, in the thread's call. */
NQ_PRIVATE void nq_attempt_begun(nq_worker *w, nq_ctx *ctx);
/* May ctx run in the thread's call of several tasks? And have it do so. */
NQ_PRIVATE bool nq_call_fits(const struct nq_handler_thread *thread, const nq_ctx *ctx);
NQ_PRIVATE void nq_call_join(struct nq_handler_thread *thread, nq_ctx *ctx);
/* What it ran has ended; out NULL: it never began, and is the caller's. */
NQ_PRIVATE void nq_attempt_end(struct nq_handler_thread *thread, const nq_outcome *out);
/* Attempts ended, that took so long together. */
NQ_PRIVATE void nq_attempts_ended(nq_worker *w, size_t n, int64_t took_us);
NQ_PRIVATE void nq_done_push(nq_worker *w, nq_ctx *ctx);    /* out is set */
NQ_PRIVATE void nq_done_release(nq_worker *w, nq_ctx *ctx); /* give back, unstarted or abandoned */
NQ_PRIVATE void nq_ready_release(nq_worker *w);             /* all that are unstarted */
/* Take what is to start now: of those with a time whose time has come, else of the others. What is too late
 * for its time is given back. NULL: nothing. */
NQ_PRIVATE nq_ctx *nq_ready_take(nq_worker *w);
/* Wake one idle handler for what is ready; it wakes the next before it runs its task. So quick tasks are run
 * by few threads, without a switch for each. */
NQ_PRIVATE void nq_ready_wake(nq_worker *w);
/* A task of this queue was claimed and may start, at once or at its time. */
NQ_PRIVATE void nq_ready_push(nq_worker *w, nq_ctx *ctx, struct nq_worker_queue *queue);
/* Tasks that have a thread, or will have one as soon as their producer has committed them. */
NQ_PRIVATE size_t nq_worker_busy(const nq_worker *w);
NQ_PRIVATE size_t nq_worker_held(const nq_worker *w);
/* The oldest lease of those, but for what is being claimed, recorded or lent just now. */
NQ_PRIVATE uint64_t nq_worker_oldest(const nq_worker *w);
NQ_PRIVATE void nq_cancel_running(nq_worker *w, enum nq_cause cause);

/* What was claimed ahead waited too long, so the average of the handlers is wrong: nothing is claimed ahead
 * until it is known better. */
NQ_PRIVATE void nq_prefetch_less(nq_worker *w);
NQ_PRIVATE size_t nq_fetch_wanted(const nq_worker *w); /* how many to claim now */
NQ_PRIVATE void nq_fetch_more(nq_worker *w); /* wake a fetcher that waited for room, if there is some now */
/* Wake the second fetcher, if it is worth it. */
NQ_PRIVATE void nq_second_wake(nq_worker *w);
/* Completions that piggyback on the next claim. While w->piggybacking they are kept for it. */
typedef struct nq_piggybacks {
    size_t n;
    nq_ctx *ctx[NQ_FINISH_MAX];
    nq_outcome *outs[NQ_FINISH_MAX];
} nq_piggybacks;
/* Take what waits; no claim will come soon, what waits is the completer's. */
NQ_PRIVATE void nq_piggybacks_take(nq_worker *w, nq_piggybacks *a);
NQ_PRIVATE void nq_piggyback_end(nq_worker *w);
/* Without the lock, from any thread: the listeners of tasks and of requests to cancel. The second has
 * duties.c look for them. */
NQ_PRIVATE void nq_fetch_wake(void *worker, uint64_t queue, nq_id id);
NQ_PRIVATE void nq_worker_want(nq_worker *w, enum nq_wanted duty); /* wake the duties for it */
NQ_PRIVATE void nq_cancels_wake(void *worker);

/* ---- pace.c: with the lock held */
static inline bool nq_ctx_late(const nq_ctx *ctx, int64_t now)
{
    return ctx->claim->late_us && ctx->claim->late_us <= now;
}
/* Is one to start now? It goes before what has no time. */
static inline bool nq_paced_due(const nq_worker *w)
{
    return w->paced.head && w->paced.head->claim->start_us <= nq_mono_us();
}
/* By the watch: wake a handler for what is due, give back what is late; when to look again. */
NQ_PRIVATE int64_t nq_paced_watch(nq_worker *w, int64_t now);

/* ---- fetch.c */
NQ_PRIVATE void *nq_fetch_main(void *worker);
NQ_PRIVATE void *nq_fetch_second_main(void *worker);

/* ---- complete.c */
NQ_PRIVATE void *nq_completer_main(void *worker);
/* After that claim: they are recorded, or the completer's. */
NQ_PRIVATE void nq_piggybacks_claimed(nq_worker *w, nq_piggybacks *a, enum nq_piggybacked piggybacked);
/* These outcomes are recorded: count, call the error hook, let go. committed: all of them were ours, whatever
 * their results say. */
NQ_PRIVATE void nq_recorded(nq_worker *w, nq_ctx *const batch[], size_t n, bool committed);

/* ---- cancel.c: look for requests to cancel, and cancel */
NQ_PRIVATE int nq_cancels_check(nq_worker *w, nq_err *err);

/* ---- settings.c: what is set for queues */
NQ_PRIVATE int nq_worker_read_settings(nq_worker *w, nq_err *err); /* by duties only */
/* With the lock held: must this task not start, because its queue or group is paused or held? */
NQ_PRIVATE bool nq_task_paused(const nq_worker *w, const nq_ctx *ctx);
/* A handler of ours has held this queue or group until then. Without the lock. */
NQ_PRIVATE void nq_worker_held_by(nq_worker *w, const char *name, int64_t until_us);
/* The listener of changes: has duties read them. Without the lock, from any thread. */
NQ_PRIVATE void nq_settings_wake(void *worker);

/* ---- schedules.c: fire what is due. Without the lock. */
NQ_PRIVATE int nq_schedules_fire(nq_worker *w, nq_scheduler *state, int64_t *next_us, nq_err *err);

/* ---- purge.c: of duties. Without the lock. */
NQ_PRIVATE int nq_purge_run(nq_worker *w, nq_purge *p, int64_t *next_us, nq_err *err);

/* ---- hold.c: nq_ctx_hold, by the worker's process. Without the lock. */
NQ_PRIVATE int nq_attempt_hold(const nq_ctx *ctx, int scope, int64_t us, nq_err *err);

/* ---- result.c: what becomes of a done task's record */
NQ_PRIVATE void nq_ctx_keep(const nq_ctx *ctx, nq_outcome *out);
/* How long it is kept, as its queue says, else the worker; 0: not, -1: for ever. Without the lock. */
NQ_PRIVATE int64_t nq_ctx_keep_done(const nq_ctx *ctx);

/* ---- progress.c */
/* nq_ctx_progress, of a note with a size. Any thread. */
NQ_PRIVATE void nq_ctx_set_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note, size_t n);
/* Progress, as one thread writes it. */
typedef struct nq_reports nq_reports;
NQ_PRIVATE int nq_reports_new(nq_reports **out, nq_worker *w, nq_err *err);
NQ_PRIVATE void nq_reports_free(nq_reports *r); /* accepts NULL */
/* Write what is new since the last time, take outage what is over. What fails is done the next time. */
NQ_PRIVATE int nq_reports_write(nq_reports *r, nq_err *err);

/* ---- listen.c: hints from other processes. Nothing of it need work: the fetcher looks anyway. */
NQ_PRIVATE void nq_listening_start(nq_worker *w);
NQ_PRIVATE void nq_listening_stop(nq_worker *w); /* the listener has ended, the bell is told to */
NQ_PRIVATE void nq_listening_free(nq_worker *w); /* and that is waited for */

/* ---- listen_bell.c: the thread of the bell */
typedef struct nq_listen_bell nq_listen_bell;
/* NULL: there is none, or no room for one. The arguments are nq_bell_new's. */
NQ_PRIVATE nq_listen_bell *nq_listen_bell_start(nq_worker *w, const uint64_t queues[], size_t n, bool local);
NQ_PRIVATE void nq_listen_bell_stop(nq_listen_bell *b); /* tell it to end; accepts NULL */
NQ_PRIVATE void nq_listen_bell_free(nq_listen_bell *b); /* and wait for it */

/* ---- duties.c */
NQ_PRIVATE void *nq_duties_main(void *worker);
/* The others took us for dead: what runs is told so, what is recorded from now on has an effect only where
 * nobody was faster. Of member id; does nothing the second time, or once there is another membership. */
NQ_PRIVATE void nq_duties_lost(nq_worker *w, uint64_t id);
/* How often a worker beats, and the time between two of them that is no sign of trouble. */
static inline int64_t nq_beat_every_us(const nq_worker *w)
{
    return w->opts.lease_us / 3 < NQ_SECONDS(5) ? w->opts.lease_us / 3 : NQ_SECONDS(5);
}

/* ---- heart.c */
NQ_PRIVATE void *nq_heart_main(void *worker);

#include "loans.h"
#include "reclaim.h"
#include "tally.h"

#endif
