/* SPDX-License-Identifier: MIT */
/* A line of nanoq add --stdin: a task that the library takes, or a message and where. */
#include "fuzz.h"

#include "../../cli/commands/add.h"
#include "../../src/api/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    struct line_fault fault = {.column = 1};
    nq_task_spec spec = {.size = sizeof spec};
    int line = 1;
    json_t *root = json_input(text, size, fault.message, &line, &fault.column);
    if (!root || !line_task(&spec, text, root, NULL, &fault)) {
        FUZZ_CHECK(fault.message[0] != '\0' && line >= 1 && fault.column >= 1);
        FUZZ_CHECK((size_t)fault.column <= size + 1);
    } else {
        /* What stands in a line is refused there, where its column can be told; but what a group may be
         * beside its queue only the library knows. */
        nq_new task;
        nq_err err = {0};
        const int rc = nq_spec_check(&spec, ADD_MAX_PAYLOAD, ADD_MAX_PAYLOAD, &task, &err);
        FUZZ_CHECK(rc == NQ_OK || (rc == NQ_EINVAL && spec.group && err.message[0] != '\0'));
        if (rc == NQ_OK)
            nq_spec_free(&task, 1);
        if (json_object_get(root, "payload")) { /* the bytes as they stood, and nothing around */
            json_t *payload =
                json_input(spec.payload, spec.payload_size, fault.message, &line, &fault.column);
            FUZZ_CHECK(payload && json_equal(payload, json_object_get(root, "payload")));
            json_decref(payload);
        }
    }
    line_forget(&spec, NULL);
    json_decref(root);
    free(text);
    return 0;
}
