/* SPDX-License-Identifier: MIT */
/* Who sees internal names that are not file-static: nobody outside the library, and nobody outside the file
 * that the amalgamation is. */
#ifndef NQ_VISIBILITY_H
#define NQ_VISIBILITY_H

#ifdef NQ_AMALGAMATION
#define NQ_PRIVATE static
#else
#define NQ_PRIVATE __attribute__((visibility("hidden")))
#endif

/* As NQ_PRIVATE, but what src/store/mysql needs as well: where that is a library of its own
 * (docs/architecture.md), these names are exported to it, under a version that nobody else may rely on:
 * "protected" where they are defined, "default" where they come from. A name that it needs and that is still
 * NQ_PRIVATE is undefined when that library is linked. */
#if defined(NQ_PLUG_IN_AS) && !defined(NQ_AMALGAMATION)
#define NQ_PLUG_IN __attribute__((visibility(NQ_PLUG_IN_AS)))
#else
#define NQ_PLUG_IN NQ_PRIVATE
#endif

#endif
