/* SPDX-License-Identifier: MIT */
/* The errors of MySQL, MariaDB and their client libraries that something here goes by. */
#ifndef NQ_STORE_MYSQL_ERRORS_H
#define NQ_STORE_MYSQL_ERRORS_H

/*
 * X(name, number, nq_code), by the names of the servers' and the clients' own headers. Numbers from 2000 and
 * from 5000 are the client libraries'. What is not here is NQ_EDB. nanoq_mysql.h, which applications compile,
 * says itself which errors end a transaction.
 */
#define NQ_MYSQL_ERRORS(X)                                                                                   \
    X(ER_DUP_ENTRY, 1062, NQ_EDUPLICATE)                                                                     \
    X(ER_DUP_ENTRY_WITH_KEY_NAME, 1586, NQ_EDUPLICATE)                                                       \
    /* A value that its column or a CHECK refuses. */                                                        \
    X(ER_BAD_NULL, 1048, NQ_EINVAL)                                                                          \
    X(ER_OUT_OF_RANGE_FOR_COLUMN, 1264, NQ_EINVAL)                                                           \
    X(ER_DATA_TRUNCATED, 1265, NQ_EINVAL)                                                                    \
    X(ER_TRUNCATED_WRONG_VALUE, 1292, NQ_EINVAL)                                                             \
    X(ER_DIVISION_BY_ZERO, 1365, NQ_EINVAL)                                                                  \
    X(ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, 1366, NQ_EINVAL)                                                   \
    X(ER_ILLEGAL_VALUE_FOR_TYPE, 1367, NQ_EINVAL)                                                            \
    X(ER_DATA_TOO_LONG, 1406, NQ_EINVAL)                                                                     \
    X(ER_WRONG_VALUE_FOR_TYPE, 1411, NQ_EINVAL)                                                              \
    X(ER_DATETIME_FUNCTION_OVERFLOW, 1441, NQ_EINVAL)                                                        \
    X(ER_DATA_OUT_OF_RANGE, 1690, NQ_EINVAL)                                                                 \
    X(ER_CHECK_CONSTRAINT_VIOLATED, 3819, NQ_EINVAL) /* MySQL */                                             \
    X(ER_CONSTRAINT_FAILED, 4025, NQ_EINVAL)         /* MariaDB */                                           \
    X(ER_CHECKREAD, 1020, NQ_ECONFLICT)              /* the row changed since the snapshot */                \
    X(ER_LOCK_WAIT_TIMEOUT, 1205, NQ_ECONFLICT)                                                              \
    X(ER_LOCK_TABLE_FULL, 1206, NQ_ECONFLICT)                                                                \
    X(ER_LOCK_DEADLOCK, 1213, NQ_ECONFLICT)                                                                  \
    X(ER_QUERY_INTERRUPTED, 1317, NQ_ECONFLICT)                                                              \
    X(ER_TRANSACTION_ROLLBACK_DURING_COMMIT, 3101, NQ_ECONFLICT) /* another member's write was first */      \
    X(ER_AUTOINC_READ_FAILED, 1467, NQ_ECONFLICT)                /* a deadlock over AUTO_INCREMENT */        \
    X(ER_BAD_DB, 1049, NQ_ENODB)                                                                             \
    X(ER_DBACCESS_DENIED, 1044, NQ_EDENIED)                                                                  \
    X(ER_ACCESS_DENIED, 1045, NQ_EDENIED)                                                                    \
    X(ER_HOST_NOT_PRIVILEGED, 1130, NQ_EDENIED)                                                              \
    X(ER_TABLEACCESS_DENIED, 1142, NQ_EDENIED)                                                               \
    X(ER_COLUMNACCESS_DENIED, 1143, NQ_EDENIED)                                                              \
    X(ER_SPECIFIC_ACCESS_DENIED, 1227, NQ_EDENIED)                                                           \
    X(ER_NOT_SUPPORTED_AUTH_MODE, 1251, NQ_EDENIED)                                                          \
    X(ER_PROCACCESS_DENIED, 1370, NQ_EDENIED)                                                                \
    X(ER_CANNOT_USER, 1396, NQ_EDENIED)                                                                      \
    X(ER_CANT_CREATE_USER_WITH_GRANT, 1410, NQ_EDENIED)                                                      \
    X(ER_ACCESS_DENIED_NO_PASSWORD, 1698, NQ_EDENIED)                                                        \
    X(ER_MUST_CHANGE_PASSWORD, 1820, NQ_EDENIED)                                                             \
    X(ER_ACCOUNT_HAS_BEEN_LOCKED, 3118, NQ_EDENIED) /* MySQL */                                              \
    X(ER_SECURE_TRANSPORT_REQUIRED, 3159, NQ_EDENIED)                                                        \
    X(ER_ACCOUNT_IS_LOCKED, 4151, NQ_EDENIED) /* MariaDB */                                                  \
    X(ER_NO_SUCH_TABLE, 1146, NQ_ENOTMIGRATED)                                                               \
    X(ER_DISK_FULL, 1021, NQ_EFULL)                                                                          \
    X(ER_RECORD_FILE_FULL, 1114, NQ_EFULL)                                                                   \
    X(ER_OPTION_PREVENTS_STATEMENT, 1290, NQ_EREADONLY)                                                      \
    X(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, 1792, NQ_EREADONLY)                                          \
    X(ER_READ_ONLY_MODE, 1836, NQ_EREADONLY)                                                                 \
    X(ER_NOT_KEYFILE, 1034, NQ_ECORRUPT)                                                                     \
    X(ER_OLD_KEYFILE, 1035, NQ_ECORRUPT)                                                                     \
    X(ER_CRASHED_ON_USAGE, 1194, NQ_ECORRUPT)                                                                \
    X(ER_CRASHED_ON_REPAIR, 1195, NQ_ECORRUPT)                                                               \
    X(ER_INDEX_CORRUPT, 1712, NQ_ECORRUPT)                                                                   \
    X(ER_TABLE_CORRUPT, 1877, NQ_ECORRUPT)                                                                   \
    X(ER_NET_PACKET_TOO_LARGE, 1153, NQ_ETOOBIG)                                                             \
    X(CR_NET_PACKET_TOO_LARGE, 2020, NQ_ETOOBIG)                                                             \
    X(ER_OUTOFMEMORY, 1037, NQ_ENOMEM)                                                                       \
    X(ER_OUT_OF_SORTMEMORY, 1038, NQ_ENOMEM)                                                                 \
    X(CR_OUT_OF_MEMORY, 2008, NQ_ENOMEM)                                                                     \
    X(ER_CON_COUNT, 1040, NQ_EUNAVAILABLE)                                                                   \
    X(ER_HANDSHAKE, 1043, NQ_EUNAVAILABLE)                                                                   \
    X(ER_UNKNOWN_COM, 1047, NQ_EUNAVAILABLE) /* Galera: the node is not ready */                             \
    X(ER_SERVER_SHUTDOWN, 1053, NQ_EUNAVAILABLE)                                                             \
    X(ER_NORMAL_SHUTDOWN, 1077, NQ_EUNAVAILABLE)                                                             \
    X(ER_SHUTDOWN_COMPLETE, 1079, NQ_EUNAVAILABLE)                                                           \
    X(ER_HOST_IS_BLOCKED, 1129, NQ_EUNAVAILABLE)                                                             \
    X(ER_NET_READ, 1158, NQ_EUNAVAILABLE)                                                                    \
    X(ER_NET_READ_INTERRUPTED, 1159, NQ_EUNAVAILABLE)                                                        \
    X(ER_NET_WRITE, 1160, NQ_EUNAVAILABLE)                                                                   \
    X(ER_NET_WRITE_INTERRUPTED, 1161, NQ_EUNAVAILABLE)                                                       \
    X(ER_NEW_ABORTING_CONNECTION, 1184, NQ_EUNAVAILABLE)                                                     \
    X(ER_TOO_MANY_USER_CONNECTIONS, 1203, NQ_EUNAVAILABLE)                                                   \
    X(ER_USER_LIMIT_REACHED, 1226, NQ_EUNAVAILABLE)                                                          \
    X(ER_CONNECTION_KILLED, 1927, NQ_EUNAVAILABLE) /* MariaDB */                                             \
    X(ER_RUN_HOOK_ERROR, 3100, NQ_EUNAVAILABLE)    /* MySQL: the member left its group */                    \
    X(ER_GRP_TRX_CONSISTENCY_NOT_ALLOWED, 3796, NQ_EUNAVAILABLE)                                             \
    X(ER_GRP_TRX_CONSISTENCY_BEFORE, 3797, NQ_EUNAVAILABLE)                                                  \
    X(ER_SESSION_WAS_KILLED, 3169, NQ_EUNAVAILABLE)         /* MySQL */                                      \
    X(ER_CLIENT_INTERACTION_TIMEOUT, 4031, NQ_EUNAVAILABLE) /* MySQL */                                      \
    X(CR_UNKNOWN, 2000, NQ_EUNAVAILABLE)                                                                     \
    X(CR_SOCKET_CREATE, 2001, NQ_EUNAVAILABLE)                                                               \
    X(CR_CONNECTION, 2002, NQ_EUNAVAILABLE)                                                                  \
    X(CR_CONN_HOST, 2003, NQ_EUNAVAILABLE)                                                                   \
    X(CR_IPSOCK, 2004, NQ_EUNAVAILABLE)                                                                      \
    X(CR_UNKNOWN_HOST, 2005, NQ_EUNAVAILABLE)                                                                \
    X(CR_SERVER_GONE, 2006, NQ_EUNAVAILABLE)                                                                 \
    X(CR_WRONG_HOST_INFO, 2009, NQ_EUNAVAILABLE)                                                             \
    X(CR_TCP_CONNECTION, 2011, NQ_EUNAVAILABLE)                                                              \
    X(CR_SERVER_HANDSHAKE, 2012, NQ_EUNAVAILABLE)                                                            \
    X(CR_SERVER_LOST, 2013, NQ_EUNAVAILABLE)                                                                 \
    X(CR_SSL_CONNECTION, 2026, NQ_EUNAVAILABLE)                                                              \
    X(CR_MALFORMED_PACKET, 2027, NQ_EUNAVAILABLE)                                                            \
    X(CR_INVALID_CONN_HANDLE, 2048, NQ_EUNAVAILABLE)                                                         \
    X(CR_SERVER_LOST_EXTENDED, 2055, NQ_EUNAVAILABLE)                                                        \
    X(CR_AUTH_PLUGIN_CANNOT_LOAD, 2059, NQ_EUNAVAILABLE)                                                     \
    X(CR_AUTH_PLUGIN, 2061, NQ_EUNAVAILABLE)                                                                 \
    X(CR_ERR_LOAD_PLUGIN, 5012, NQ_EUNAVAILABLE)                                                             \
    X(CR_ERR_NET_READ, 5013, NQ_EUNAVAILABLE)                                                                \
    X(CR_ERR_NET_WRITE, 5014, NQ_EUNAVAILABLE)                                                               \
    X(ER_ERROR_DURING_COMMIT, 1180, NQ_EDB) /* but for a deadlock: statement.c */                            \
    X(ER_UNKNOWN_STMT_HANDLER, 1243, NQ_EDB)                                                                 \
    X(ER_NEED_REPREPARE, 1615, NQ_EDB)                                                                       \
    X(ER_STATEMENT_TIMEOUT, 1969, NQ_EDB) /* MariaDB */                                                      \
    X(ER_QUERY_TIMEOUT, 3024, NQ_EDB)     /* MySQL */                                                        \
    X(CR_COMMANDS_OUT_OF_SYNC, 2014, NQ_EDB)                                                                 \
    X(CR_NO_PREPARE_STMT, 2030, NQ_EDB)                                                                      \
    X(CR_PARAMS_NOT_BOUND, 2031, NQ_EDB)

#define NQ_MYSQL_NUMBER(name, number, code) NQ_MYSQL_##name = (number),
enum nq_mysql_number { NQ_MYSQL_ERRORS(NQ_MYSQL_NUMBER) };

#endif
