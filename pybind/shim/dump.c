/* Which fibers there are, and where they are.
 *
 * Only their own worker may look at their frames while it runs; so the world is stopped, or the GIL held. Meanwhile
 * nothing of Python's is allocated: what is found is noted in plain memory, and made into objects afterwards. */
#include "shim.h"

#include <internal/pycore_frame.h>

#include <stdlib.h>

/* So many calls of one fiber, the innermost ones, are listed. */
#define DEEP 500

struct call {
    PyObject *code;
    int line;
};

struct entry {
    PyObject *object;
    int runs;
    size_t calls;
};

struct notes {
    int stacks;
    /* If it is not NULL, only what this worker runs. */
    struct rv_worker *only;
    int out_of_memory;
    struct entry *entries;
    size_t entry_count, entry_room;
    struct call *calls;
    size_t call_count, call_room;
};

/* Room for one more. */
static void *grow(struct notes *notes, void *array, size_t count, size_t *room, size_t size) {
    if (count < *room) {
        return array;
    }
    size_t more = *room == 0 ? 64 : *room * 2;
    void *grown = realloc(array, more * size);
    if (grown == NULL) {
        notes->out_of_memory = 1;
        return array;
    }
    *room = more;
    return grown;
}

static void note_call(struct notes *notes, struct _PyInterpreterFrame *frame) {
    notes->calls = grow(notes, notes->calls, notes->call_count, &notes->call_room, sizeof *notes->calls);
    if (!notes->out_of_memory) {
        struct call *call = &notes->calls[notes->call_count++];
        call->code = PyUnstable_InterpreterFrame_GetCode(frame);
        call->line = PyUnstable_InterpreterFrame_GetLine(frame);
    }
}

static void note_fiber(struct notes *notes, struct rv_fiber *f, struct _PyInterpreterFrame *frame, int runs) {
    /* One that has not called anything yet, or is about to end. */
    if (f->object == NULL) {
        return;
    }
    notes->entries = grow(notes, notes->entries, notes->entry_count, &notes->entry_room, sizeof *notes->entries);
    if (notes->out_of_memory) {
        return;
    }
    size_t before = notes->call_count;
    for (int depth = 0; notes->stacks && frame != NULL && frame != &f->sentinel && depth < DEEP;
         frame = frame->previous) {
        if (!_PyFrame_IsIncomplete(frame)) {
            note_call(notes, frame);
            depth++;
        }
    }
    notes->entries[notes->entry_count++] = (struct entry){
        .object = Py_NewRef(f->object),
        .runs = runs,
        .calls = notes->call_count - before,
    };
}

static void note_all(struct notes *notes) {
    for (struct rv_worker *w = rv_first_worker(); w != NULL; w = w->next) {
        if (w->running != NULL && (notes->only == NULL || notes->only == w)) {
            note_fiber(notes, w->running, w->tstate->current_frame, 1);
        }
        for (struct rv_fiber *f = w->parked; f != NULL && notes->only == NULL; f = f->after) {
            note_fiber(notes, f, f->saved.current_frame, 0);
        }
    }
}

#if !defined(Py_GIL_DISABLED)

static void stop_and_note(struct notes *notes) { note_all(notes); }

#elif PY_VERSION_HEX >= 0x030E0000

static void stop_and_note(struct notes *notes) {
    PyInterpreterState *interp = PyInterpreterState_Get();
    _PyEval_StopTheWorld(interp);
    note_all(notes);
    _PyEval_StartTheWorld(interp);
}

#else

/* 3.13t does not export that. This stops the world and shows object after object: the first is enough. */
static int note_once(PyObject *object, void *notes) {
    (void)object;
    note_all(notes);
    return 0;
}

static void stop_and_note(struct notes *notes) { PyUnstable_GC_VisitObjects(note_once, notes); }

#endif

/* The calls of one fiber as a list; takes over their references. */
static PyObject *list_of(struct call *calls, size_t count) {
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; i < count; i++) {
        PyObject *item = list == NULL ? NULL : Py_BuildValue("(Oi)", calls[i].code, calls[i].line);
        Py_DECREF(calls[i].code);
        if (item == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        }
    }
    return list;
}

PyObject *rv_worker_calls(struct rv_worker *worker) {
    struct notes notes = {.stacks = 1, .only = worker};
    stop_and_note(&notes);
    PyObject *list = notes.out_of_memory ? PyErr_NoMemory() : list_of(notes.calls, notes.call_count);
    /* None, or one. */
    if (notes.entry_count != 0) {
        Py_DECREF(notes.entries[0].object);
    }
    free(notes.entries);
    free(notes.calls);
    return list;
}

int rv_dump(PyObject *list, int stacks) {
    struct notes notes = {.stacks = stacks};
    stop_and_note(&notes);
    int failed = 0;
    struct call *calls = notes.calls;
    for (size_t i = 0; i < notes.entry_count; i++) {
        struct entry *entry = &notes.entries[i];
        PyObject *stack = stacks ? list_of(calls, entry->calls) : Py_NewRef(Py_None);
        calls = calls == NULL ? NULL : calls + entry->calls;
        PyObject *item = NULL;
        if (stack != NULL && !failed) {
            item = PyTuple_Pack(3, entry->object, entry->runs ? Py_True : Py_False, stack);
        }
        failed |= item == NULL || PyList_Append(list, item) != 0;
        Py_XDECREF(item);
        Py_XDECREF(stack);
        Py_DECREF(entry->object);
    }
    free(notes.entries);
    free(notes.calls);
    if (notes.out_of_memory && !failed) {
        PyErr_NoMemory();
        failed = 1;
    }
    return failed ? -1 : 0;
}
