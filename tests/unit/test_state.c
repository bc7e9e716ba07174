/* SPDX-License-Identifier: MIT */
/* state.c: names, and every move from every state. */
#include "unit.h"

START_TEST(state_names)
{
    static const char *const names[] = {"waiting", "running", "done", "dead", "cancelled"};

    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(nq_state_name(i), names[i]);
        ck_assert_int_eq(nq_state_from_name(names[i]), i);
    }
    ck_assert_ptr_null(nq_state_name(-1));
    ck_assert_ptr_null(nq_state_name(5));
    ck_assert_int_eq(nq_state_from_name("Waiting"), NQ_EINVAL);
    ck_assert_int_eq(nq_state_from_name(""), NQ_EINVAL);
    ck_assert_int_eq(nq_state_from_name(NULL), NQ_EINVAL);
}
END_TEST

/* Rows: moves in the order of enum nq_move; columns: from waiting, running, done, dead, cancelled. */
static const int expected[9][5] = {
    {NQ_STATE_RUNNING, -1, -1, -1, -1},                                           /* claim */
    {-1, NQ_STATE_DONE, -1, -1, -1},                                              /* complete */
    {-1, NQ_STATE_WAITING, -1, -1, -1},                                           /* fail */
    {-1, NQ_STATE_WAITING, -1, -1, -1},                                           /* snooze */
    {-1, NQ_STATE_WAITING, -1, -1, -1},                                           /* release */
    {-1, NQ_STATE_DEAD, -1, -1, -1},                                              /* bury */
    {NQ_STATE_WAITING, -1, NQ_STATE_WAITING, NQ_STATE_WAITING, NQ_STATE_WAITING}, /* retry */
    {NQ_STATE_CANCELLED, NQ_STATE_CANCELLED, -1, -1, -1},                         /* cancel */
    {-2, -1, -2, -2, -2},                                                         /* delete */
};

START_TEST(moves)
{
    for (int move = 0; move < 9; move++)
        for (int from = 0; from < 5; from++)
            ck_assert_int_eq(nq_state_move((enum nq_state)from, (enum nq_move)move), expected[move][from]);
}
END_TEST

START_TEST(out_of_range)
{
    int bad[] = {-1, -7, 9, 100}; /* read from memory, so that nothing is known when compiling */

    for (int i = 0; i < 4; i++) {
        enum nq_state state;
        enum nq_move move;
        memcpy(&state, &bad[i], sizeof state);
        memcpy(&move, &bad[i], sizeof move);
        ck_assert_int_eq(!nq_state_name(bad[i]), 1);
        ck_assert_int_eq(nq_state_move(NQ_STATE_WAITING, move), -1);
        ck_assert_int_eq(nq_state_move(state, NQ_MOVE_CLAIM), -1);
    }
}
END_TEST

UNIT_MAIN("state", state_names, moves, out_of_range)
