/*
 * libvlmp: an ExecuTorch bundle of vlmp answers questions about pictures. C99; docs/libvlmp.md has a whole program.
 *
 * Errors. Every call that can fail returns a vlmp_status. vlmp_last_error() has the line for a person: what, where, and
 * what would be right. No exception leaves a call, and nothing is written to stdout or stderr.
 *
 * Text is UTF-8 that ends with a zero byte, in both directions. Paths are as the file system has them.
 *
 * Pointers. What an app hands over is read before the call returns, and never kept; only the function and the pointer
 * given to vlmp_set_log are. What an app gets is constant: an answer until vlmp_answer_free, facts until
 * vlmp_facts_free, both even after their handle is closed; what a callback gets until the callback returns.
 *
 * Threads. Every function may be called by any thread. A handle makes one call at a time, a whole answer; a second
 * thread waits until it is over. vlmp_stop and vlmp_facts_of do not wait, and two handles do not wait for each other
 * (inside, ExecuTorch may run one graph at a time). A callback runs in the thread that asked. To its own handle it may
 * call these two; all other calls are refused with VLMP_ERROR_BUSY. It must not wait for a thread that makes one.
 *
 * The process. Signals, the handlers of a crash and the locale are left alone. ExecuTorch has one of each of these for
 * a process, and vlmp_open sets them: the number of threads (see vlmp_options), XNNPACK's option "weight_cache_enabled"
 * (on), and where its log goes (see vlmp_set_log). ExecuTorch ends the process (abort) where it finds itself broken; a
 * bundle whose hashes were compared does not bring it there.
 */
#ifndef VLMP_H
#define VLMP_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define VLMP_API __attribute__((visibility("default")))
#else
#define VLMP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum vlmp_status {
  VLMP_OK = 0,
  VLMP_ERROR_ARGUMENT = 1,     /* a pointer that is NULL, text that is no UTF-8, options that make no sense */
  VLMP_ERROR_HANDLE = 2,       /* nothing is open under this handle: it was closed, or never given */
  VLMP_ERROR_BUSY = 3,         /* a callback called the handle that calls it */
  VLMP_ERROR_BUNDLE = 4,       /* missing, damaged, of another target or version */
  VLMP_ERROR_IMAGE = 5,        /* missing, damaged, of another format, too large, too long and narrow */
  VLMP_ERROR_PROMPT = 6,       /* empty, too long, or max_new_tokens is more than the bundle allows */
  VLMP_ERROR_CONVERSATION = 7, /* a reply before a picture, or no room for it: ask anew */
  VLMP_ERROR_RUNTIME = 8,      /* ExecuTorch failed, or the model computed what is no number */
  VLMP_ERROR_MEMORY = 9,       /* there was not enough */
  VLMP_ERROR_INTERNAL = 10     /* anything else: a mistake in libvlmp, or an exception out of a callback */
} vlmp_status;

/* Version of the library, as "0.1.0". Lasts as long as the library is loaded. */
VLMP_API const char* vlmp_version(void);

/* What the last call of this thread that failed had to say: one line, valid until the next one that fails in this
   thread. Empty before any. Never NULL. Owned by libvlmp. */
VLMP_API const char* vlmp_last_error(void);

/* A line of ExecuTorch's log. level: 'D' debug, 'I' info, 'E' error, 'F' fatal, after which it ends the process. */
typedef void (*vlmp_on_log)(void* user, char level, const char* message);

/* Who hears ExecuTorch's log from now on, of all handles; NULL, as in the beginning: nobody. It is called by any thread
   and must call nothing of libvlmp. It may still be running in another thread when this returns. */
VLMP_API void vlmp_set_log(vlmp_on_log on_log, void* user);

/* ---- A bundle and its conversation ------------------------------------------------------------------------------ */

/* An open bundle, and one conversation. Numbers are never given twice; 0 is none. */
typedef uint64_t vlmp_handle;

/* To be made by vlmp_default_options(). Later versions add fields at the end. */
typedef struct vlmp_options {
  size_t size;          /* of this struct, in bytes */
  int32_t threads;      /* 1 to 1024, of the whole process; 0: as it is, at first one a core. While another handle is
                           open, another number than its own is refused */
  int32_t check_hashes; /* not 0: compare every file's sha256 with the manifest's, for which all are read */
  double temperature;   /* 0 to 100; 0: the most likely token, always */
  double top_p;         /* 0 to 1: sample from the most likely tokens that make up this share */
  uint64_t seed;        /* of sampling. The same seed and calls give the same answers */
} vlmp_options;

/* As many threads as there are, hashes compared, no sampling. */
static inline vlmp_options vlmp_default_options(void) {
  vlmp_options options = {sizeof(vlmp_options), 0, 1, 0.0, 1.0, 0};
  return options;
}

/* Opens the bundle in the folder `bundle`. options: NULL is the default. *handle: to be closed; 0 on failure. Takes
   seconds for a large bundle, and cannot be stopped: not for an app's main thread.
   Fails with ARGUMENT, BUNDLE, RUNTIME, MEMORY. */
VLMP_API vlmp_status vlmp_open(const char* bundle, const vlmp_options* options, vlmp_handle* handle);

/* Ends what the handle is doing, as vlmp_stop does, waits until it has ended, and gives the memory back. Calls that
   wait for the handle fail with HANDLE; what the last of them holds goes when it returns.
   Fails with HANDLE, BUSY. */
VLMP_API vlmp_status vlmp_close(vlmp_handle handle);

/* Forgets the conversation and begins with the seed again: the handle is as if just opened. Waits for a running answer.
   Fails with HANDLE, BUSY. */
VLMP_API vlmp_status vlmp_reset(vlmp_handle handle);

/* ---- Asking ------------------------------------------------------------------------------------------------------ */

/* A piece of the answer as it comes: whole characters, `bytes` of them and a zero byte. Return 0 to go on; anything
   else stops the answer, as vlmp_stop does. */
typedef int (*vlmp_on_text)(void* user, const char* piece, size_t bytes);

/* To be made by vlmp_default_turn(). Later versions add fields at the end. */
typedef struct vlmp_turn {
  size_t size;            /* of this struct, in bytes */
  int32_t max_new_tokens; /* longest answer; 0: as many as the bundle allows */
  int32_t control_tokens; /* not 0: tokens as <|im_end|> in the prompt are what they are to the model, not text */
  vlmp_on_text on_text;   /* NULL: nobody hears the answer before it is complete */
  void* user;             /* given to on_text */
} vlmp_turn;

static inline vlmp_turn vlmp_default_turn(void) {
  vlmp_turn turn = {sizeof(vlmp_turn), 0, 0, NULL, NULL};
  return turn;
}

/* In milliseconds. Phases that did not happen are 0. */
typedef struct vlmp_timings {
  double load_ms;        /* opening the program and the tokenizer, without the comparison of hashes */
  double preprocess_ms;  /* reading and fitting the picture */
  double vision_ms;      /* the vision tower */
  double prefill_ms;     /* the prompt; with a picture, also its visual tokens and the pruner */
  double decode_ms;      /* all tokens after the first */
  double first_token_ms; /* from the picture to the first token: the three before decode */
  int32_t decoded_tokens; /* in decode_ms */
} vlmp_timings;

/* Visual tokens that one stage of pruning has left, ascending, as numbers of the whole picture's tokens. */
typedef struct vlmp_stage {
  const int32_t* kept;
  size_t num_kept;
} vlmp_stage;

typedef struct vlmp_answer {
  const char* text; /* `text_bytes` and a zero byte */
  size_t text_bytes;
  const int32_t* tokens; /* ids, with the one that ends the answer */
  size_t num_tokens;
  int32_t stopped; /* 1 when it was stopped before it had ended. Then `tokens` are those until there, and a reply goes
                      on after them. Without tokens, a question has left no picture, and a reply the conversation as it
                      was */
  vlmp_timings timings;
  /* Of a question with a picture; of a reply all are empty, NULL and 0: */
  const int32_t* kept;  /* visual tokens that were left at the end, ascending; all of an unpruned bundle */
  const int32_t* order; /* the same in the order in which the pruner chose them */
  size_t num_kept;          /* of both; 0 when it was stopped before the pruner ran */
  const vlmp_stage* stages; /* what each stage left; the last is `kept` */
  size_t num_stages;
  int32_t visual_tokens;            /* of the picture before any was pruned */
  int32_t grid_rows, grid_columns;  /* token r * grid_columns + c is in row r, column c of the model's picture. 0 when
                                       the tokens are not one grid */
  int32_t image_width, image_height; /* of the model's picture, in pixels */
  int32_t photo_left, photo_top, photo_width, photo_height; /* where the photo, upright, lies in it; bars around it */
} vlmp_answer;

/* Asks about a PNG or JPEG file, upright as its EXIF says; begins a new conversation.
   turn: NULL is the default. *answer: to be freed; NULL on failure. answer: NULL where only on_text is wanted.
   Fails with ARGUMENT, HANDLE, BUSY, IMAGE, PROMPT, RUNTIME, MEMORY. */
VLMP_API vlmp_status vlmp_ask(vlmp_handle handle, const char* image, const char* prompt, const vlmp_turn* turn,
                              vlmp_answer** answer);

/* The same about pixels. rgb: 3 bytes a pixel, rows from the top, `stride` bytes from row to row; 0: 3 * width. */
VLMP_API vlmp_status vlmp_ask_pixels(vlmp_handle handle, const uint8_t* rgb, int32_t width, int32_t height,
                                     size_t stride, const char* prompt, const vlmp_turn* turn, vlmp_answer** answer);

/* Asks on about the same picture. A reply that fails before its first token leaves the conversation as it was.
   Fails with ARGUMENT, HANDLE, BUSY, PROMPT, CONVERSATION, RUNTIME, MEMORY. */
VLMP_API vlmp_status vlmp_reply(vlmp_handle handle, const char* prompt, const vlmp_turn* turn, vlmp_answer** answer);

/* Ends the answer that the handle is giving, if any: at once between two steps, otherwise after the token, or the phase
   before the first token, that is being computed, which is dropped. The call that gives it returns VLMP_OK with
   `stopped` set. Does not wait, neither for that nor for the handle. An answer that has not begun yet, or waits, is not
   stopped.
   Fails with HANDLE. */
VLMP_API vlmp_status vlmp_stop(vlmp_handle handle);

/* NULL is fine. */
VLMP_API void vlmp_answer_free(vlmp_answer* answer);

/* ---- What a bundle is -------------------------------------------------------------------------------------------- */

typedef struct vlmp_facts {
  const char *model, *checkpoint;
  const char *target, *precision, *quantization;
  const char* pruner; /* of all stages, with + between them; an unpruned bundle has one stage, "none" */
  int32_t num_stages;
  int32_t visual_tokens, kept_tokens; /* of a picture: before the first stage, after the last */
  int32_t image_width, image_height;  /* that every picture is fitted to, in pixels */
  int32_t grid_rows, grid_columns;    /* as in vlmp_answer */
  int32_t max_prompt_tokens;          /* of a turn, with the template around the prompt */
  int32_t max_new_tokens;             /* of an answer */
  uint64_t bundle_bytes;              /* of all files; docs/libvlmp.md says what memory follows from it */
} vlmp_facts;

/* Facts of a bundle that is not opened: reads its manifest, and looks that all files are there and of the right size.
   *facts: to be freed; NULL on failure. Fails with ARGUMENT, BUNDLE, MEMORY. */
VLMP_API vlmp_status vlmp_read_facts(const char* bundle, vlmp_facts** facts);

/* The same of an open one; does not wait. Fails with ARGUMENT, HANDLE, MEMORY. */
VLMP_API vlmp_status vlmp_facts_of(vlmp_handle handle, vlmp_facts** facts);

/* NULL is fine. */
VLMP_API void vlmp_facts_free(vlmp_facts* facts);

#ifdef __cplusplus
}
#endif

#endif
