/* SPDX-License-Identifier: MIT */
/* Task states and the moves between them. */
#include "core.h"

static const char *const state_names[] = {"waiting", "running", "done", "dead", "cancelled"};
#define STATE_COUNT ((int)(sizeof(state_names) / sizeof state_names[0]))

enum state_to {
    STATE_GO = -2, /* the row goes */
    STATE_NO = -1, /* not allowed */
    STATE_WT = NQ_STATE_WAITING,
    STATE_RN = NQ_STATE_RUNNING,
    STATE_DN = NQ_STATE_DONE, /* or the row goes, where done tasks are not kept */
    STATE_DD = NQ_STATE_DEAD,
    STATE_CN = NQ_STATE_CANCELLED
};

/* docs/states.md draws this. A running task is its worker's alone: nobody else may move it,
 * but anybody may ask to have it cancelled. */
static const int8_t state_moves[][NQ_MOVE_DELETE + 1] = {
    /* A running one is cancelled when its attempt ends and was not successful.
     * from waiting, running, done, dead, cancelled, by
     * claim   complete  fail      snooze    release   bury      retry     cancel    delete */
    {STATE_RN, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_WT, STATE_CN, STATE_GO},
    {STATE_NO, STATE_DN, STATE_WT, STATE_WT, STATE_WT, STATE_DD, STATE_NO, STATE_CN, STATE_NO},
    {STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_WT, STATE_NO, STATE_GO},
    {STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_WT, STATE_NO, STATE_GO},
    {STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_NO, STATE_WT, STATE_NO, STATE_GO},
};

int nq_state_move(enum nq_state from, enum nq_move move)
{
    if ((int)from < 0 || (int)from >= STATE_COUNT || (int)move < 0 || (int)move > (int)NQ_MOVE_DELETE)
        return STATE_NO;
    return state_moves[from][move];
}

const char *nq_state_name(int state)
{
    return state >= 0 && state < STATE_COUNT ? state_names[state] : NULL;
}

int nq_state_from_name(const char *name)
{
    for (int i = 0; name && i < STATE_COUNT; i++)
        if (strcmp(name, state_names[i]) == 0)
            return i;
    return NQ_EINVAL;
}
