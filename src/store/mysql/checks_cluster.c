/* SPDX-License-Identifier: MIT */
/* Galera and MySQL's Group Replication: the check of nanoq doctor that asks whether the cluster is whole. */
#include <strings.h>

#include "mysql_driver.h"

static void mysql_checks_cluster_galera(const nq_checks *k, nq_found *f)
{
    const int64_t size = nq_checks_number(k, "wsrep_cluster_size", 0);
    const char *state = nq_checks_said(k, "wsrep_local_state_comment");
    const char *status = nq_checks_said(k, "wsrep_cluster_status");
    if (!status || strcasecmp(status, "Primary") != 0)
        nq_found_more(f, NQ_CHECK_ERROR, "bring the other nodes back: this one has no quorum",
                      "the node's part of the cluster is %.40s", status ? status : "unknown");
    if (!nq_checks_is(k, "wsrep_ready", "ON"))
        nq_found_more(f, NQ_CHECK_ERROR, "see the server's log", "the node is not ready");
    if (!state || strcasecmp(state, "Synced") != 0)
        nq_found_more(f, NQ_CHECK_WARNING, "wait, or use another node", "the node is %.40s, not Synced",
                      state ? state : "unknown");
    if (nq_checks_number(k, "innodb_autoinc_lock_mode", 2) != 2)
        nq_found_more(f, NQ_CHECK_ERROR, "innodb_autoinc_lock_mode = 2",
                      "innodb_autoinc_lock_mode is not 2, which Galera needs");
    if (size < 3)
        nq_found_more(f, NQ_CHECK_WARNING, "add a node, or an arbitrator",
                      "the cluster has %lld nodes: without one of them the others may stop", (long long)size);
    if (f->level == NQ_CHECK_OK)
        nq_found_say(f, NQ_CHECK_OK, NULL, "a synced node of a cluster of %lld", (long long)size);
}

/* A member that has not joined has one row, without its name. */
#define MYSQL_CHECKS_CLUSTER_OWN(column) "MAX(IF(MEMBER_ID=@@server_uuid," column ",''))"
#define MYSQL_CHECKS_CLUSTER_FROM        " FROM performance_schema.replication_group_members"

/* By the names that the check asks for. */
static int mysql_checks_cluster_ask(nq_conn *c, nq_checks *k, nq_err *err)
{
    static const char ask[] =
        "SELECT 'nanoq member'," MYSQL_CHECKS_CLUSTER_OWN("MEMBER_STATE") MYSQL_CHECKS_CLUSTER_FROM
        " UNION ALL SELECT 'nanoq role'," MYSQL_CHECKS_CLUSTER_OWN("MEMBER_ROLE") MYSQL_CHECKS_CLUSTER_FROM
        " UNION ALL SELECT 'nanoq members',CAST(COUNT(*) AS CHAR)" MYSQL_CHECKS_CLUSTER_FROM
        " UNION ALL SELECT 'nanoq reachable',CAST(SUM(MEMBER_STATE IN ('ONLINE','RECOVERING')) AS "
        "CHAR)" MYSQL_CHECKS_CLUSTER_FROM;
    return nq_checks_said(k, "nanoq members") ? NQ_OK
                                              : nq_sql(c, ask, NULL, 0, nq_checks_var_row, k, NULL, err);
}

static void mysql_checks_cluster_group(const nq_checks *k, nq_found *f)
{
    const char *state = nq_checks_said(k, "nanoq member"), *role = nq_checks_said(k, "nanoq role");
    const long long members = nq_checks_number(k, "nanoq members", 0);
    const long long reachable = nq_checks_number(k, "nanoq reachable", 0);
    const bool single = nq_checks_is(k, "group_replication_single_primary_mode", "ON");
    const bool recovering = state && strcasecmp(state, "RECOVERING") == 0;
    if (members == 0) {
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "the server's performance_schema does not tell of its group");
        return;
    }
    if (!state || (strcasecmp(state, "ONLINE") != 0 && !recovering)) {
        nq_found_say(f, NQ_CHECK_ERROR,
                     "START GROUP_REPLICATION, or use another member; see the server's log",
                     "the server belongs to a group and is %.40s there: what is written here the others do "
                     "not get",
                     state && *state ? state : "OFFLINE");
        return;
    }
    if (reachable * 2 <= members)
        nq_found_more(f, NQ_CHECK_ERROR, "bring the other members back: this one has no majority",
                      "of %lld members %lld can be reached: whoever writes waits", members, reachable);
    if (single && role && strcasecmp(role, "PRIMARY") != 0)
        nq_found_more(f, NQ_CHECK_ERROR, "lead clients to the primary, as MySQL Router does",
                      "the member is a secondary: it takes no writes");
    if (recovering)
        nq_found_more(f, NQ_CHECK_WARNING, "wait, or use another member",
                      "the member is RECOVERING, not ONLINE");
    if (reachable < members && reachable * 2 > members)
        nq_found_more(f, NQ_CHECK_WARNING, "bring the other members back",
                      "of %lld members %lld can be reached", members, reachable);
    if (members < 3)
        nq_found_more(f, NQ_CHECK_WARNING, "add a member",
                      "the group has %lld members: without one of them the others may stop", members);
    if (f->level == NQ_CHECK_OK)
        nq_found_say(f, NQ_CHECK_OK, NULL,
                     single ? "the primary of a group of %lld" : "one of %lld primaries of a group", members);
}

int nq_mysql_check_cluster(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const char *group = nq_checks_said(k, "group_replication_group_name");
    if (nq_checks_is(k, "wsrep_on", "ON") || nq_checks_is(k, "wsrep_on", "1")) {
        mysql_checks_cluster_galera(k, f);
        return NQ_OK;
    }
    if (!group || !*group) {
        nq_found_say(f, NQ_CHECK_NOT_APPLICABLE, NULL,
                     "the server belongs to no Galera cluster and to no group of Group Replication");
        return NQ_OK;
    }
    const int rc = mysql_checks_cluster_ask(c, k, err);
    if (rc == NQ_OK)
        mysql_checks_cluster_group(k, f);
    return rc;
}
