// vlmp_runner: answers a question about an image with an ExecuTorch bundle, or measures it.
#include <cstdio>
#include <iostream>
#include <new>

#include "error.h"
#include "files.h"
#include "generate.h"
#include "machine.h"
#include "options.h"
#include "profile.h"
#include "program.h"

namespace vlmp {
namespace {

const std::string kProgram = "vlmp_runner";

void show_ids(const char* name, const std::vector<std::int32_t>& ids) {
  std::fprintf(stderr, "%s", name);
  for (const std::int32_t id : ids) std::fprintf(stderr, " %d", id);
  std::fputc('\n', stderr);
}

void show(const Answer& answer, int visual_tokens) {
  const Timings& timings = answer.timings;
  if (!answer.kept.empty()) {
    show_ids(("kept " + std::to_string(answer.kept.size()) + " of " + std::to_string(visual_tokens) + ":").c_str(),
             answer.kept);
    show_ids("order:", answer.order);
    std::fprintf(stderr, "preprocess %.1f ms, vision %.1f ms, ", timings.preprocess_ms, timings.vision_ms);
  }
  std::fprintf(stderr, "prefill %.1f ms, decode %d tokens in %.1f ms\n", timings.prefill_ms, timings.decoded_tokens,
               timings.decode_ms);
  show_ids("tokens:", answer.tokens);
}

void answer(const Options& options) {
  const Manifest manifest = read_manifest(options.bundle);
  Stopwatch watch;
  Session session(options.bundle, manifest, options.threads, options.etdump.has_value());
  const double load_ms = watch.lap_ms();

  Picker picker(options.temperature, options.top_p, options.seed);
  std::string logits;
  Turn turn;
  turn.max_new_tokens = options.max_new_tokens;
  turn.ignore_end = options.ignore_end;
  turn.on_text = [](std::string_view text) { std::cout << text << std::flush; };
  if (options.logits) {
    turn.on_logits = [&](const std::vector<float>& row) {
      logits.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float));
    };
  }
  std::fprintf(stderr, "load %.1f ms\n", load_ms);
  const Answer first = first_turn(session, options.image, options.prompt, picker, turn);
  std::cout << std::endl;
  show(first, manifest.pruner.visual_tokens);
  for (const std::string& reply : options.replies) {
    const Answer next = next_turn(session, reply, picker, turn);
    std::cout << std::endl;
    show(next, manifest.pruner.visual_tokens);
  }
  std::fprintf(stderr, "peak memory %.1f MiB\n", peak_mib());
  if (options.logits) write_file(*options.logits, logits);
  if (options.etdump) write_file(*options.etdump, session.program().events());
  if (!std::cout) fail("the answer cannot be written to stdout");
}

std::string one_line(std::string text) {
  for (char& byte : text) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) byte = ' ';
  }
  return text;
}

int run(const std::vector<std::string>& arguments) {
  try {
    const Options options = parse_options(arguments);
    if (options.help) {
      std::cout << kUsage;
      return 0;
    }
    quiet_runtime(one_line(kProgram + ": " + options.bundle.string()));
    options.runs ? profile(options, arguments) : answer(options);
    return 0;
  } catch (const std::bad_alloc&) {
    std::cerr << kProgram << ": memory ran out" << std::endl;
  } catch (const std::exception& error) {
    std::cerr << kProgram << ": " << one_line(error.what()) << std::endl;
  }
  return 2;
}

}  // namespace
}  // namespace vlmp

int main(int count, char** values) { return vlmp::run({values + 1, values + count}); }
