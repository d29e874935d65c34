/* Asks about a picture, and once more: ask BUNDLE PHOTO QUESTION REPLY. See docs/libvlmp.md. */
#include <stdio.h>
#include <vlmp.h>

/* Pieces come while the answer is made. Anything but 0 would stop it. */
static int show(void* user, const char* piece, size_t bytes) {
  fwrite(piece, 1, bytes, user);
  return fflush(user);
}

static int fail(vlmp_handle handle) {
  fprintf(stderr, "%s\n", vlmp_last_error());
  vlmp_close(handle); /* of 0 it says only that nothing is open */
  return 1;
}

int main(int count, char** values) {
  vlmp_options options = vlmp_default_options();
  vlmp_turn turn = vlmp_default_turn();
  vlmp_handle chat = 0;
  vlmp_answer* answer = NULL;
  if (count != 5) return fprintf(stderr, "ask BUNDLE PHOTO QUESTION REPLY\n"), 2;

  options.threads = 1;
  if (vlmp_open(values[1], &options, &chat) != VLMP_OK) return fail(chat);

  turn.on_text = show;
  turn.user = stdout;
  if (vlmp_ask(chat, values[2], values[3], &turn, &answer) != VLMP_OK) return fail(chat);
  printf("\nkept %d of %d:", (int)answer->num_kept, (int)answer->visual_tokens);
  for (size_t i = 0; i < answer->num_kept; ++i) printf(" %d", (int)answer->kept[i]);
  printf("\n%.0f ms to the first token\n", answer->timings.first_token_ms);
  vlmp_answer_free(answer);

  if (vlmp_reply(chat, values[4], &turn, NULL) != VLMP_OK) return fail(chat);
  printf("\n");
  return vlmp_close(chat) == VLMP_OK ? 0 : fail(chat);
}
