#include "profile.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <optional>

#include "error.h"
#include "json.h"
#include "machine.h"
#include "output.h"
#include "program.h"
#include "turn.h"
#include "unicode.h"

namespace vlmp {
namespace fs = std::filesystem;
namespace {

constexpr int kProfileVersion = 1;
constexpr double kMib = 1 << 20;

const char* const kSplit = "not split: the runner times whole methods; --etdump writes what each operator took";

// Runs `work` in a process of its own and returns its answer, so that one load does not profit from another. Forked
// rather than started anew: under an emulator or a loader of its own, a runner cannot find itself. Call before any
// thread is made.
Json in_fresh_process(const std::function<Json()>& work) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) fail("no pipe can be made");
  const pid_t child = fork();
  if (child < 0) fail("no process can be made");
  if (child == 0) {
    close(ends[0]);
    std::string answer;
    try {
      answer = Json{{"answer", work()}}.dump();
    } catch (const std::exception& error) {
      answer = Json{{"error", to_valid_utf8(text_of(error))}}.dump();
    }
    const bool sent = write(ends[1], answer.data(), answer.size()) == static_cast<ssize_t>(answer.size());
    std::_Exit(sent ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> piece{};
  for (ssize_t got; (got = read(ends[0], piece.data(), piece.size())) > 0;) text.append(piece.data(), std::size_t(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    fail("the process that loads the bundle was ended by signal ", WTERMSIG(status), "; if that is 9, memory ran out");
  }
  if (WEXITSTATUS(status) != 0) std::_Exit(WEXITSTATUS(status));  // it has said why
  const Json answer = parse_json(text, "what the process that loads the bundle says");
  if (answer.contains("error")) fail(answer["error"].get<std::string>());
  return answer["answer"];
}

std::int32_t first_token(Session& session, const Options& options, const std::vector<std::int32_t>& ids) {
  const std::vector<float> pixels = to_pixels(open_picture(options.image), session.manifest().image);
  return Sampler(0, 1, 0).sample(session.prefill(ids, session.vision(pixels)).logits);
}

// One first turn with exactly `decode_tokens` greedy tokens after the first: a turn would end with its answer, and make
// text of it. Reading the image is timed, too.
Timings time_turn(Session& session, const fs::path& image, const std::vector<std::int32_t>& ids, int decode_tokens) {
  const Session::Hold hold(session);
  Timings timings;
  Stopwatch watch;
  const std::vector<float> pixels = to_pixels(open_picture(image), session.manifest().image);
  timings.preprocess_ms = watch.lap_ms();
  const Seen seen = session.vision(pixels);
  timings.vision_ms = watch.lap_ms();
  std::vector<float> logits = session.prefill(ids, seen).logits;
  timings.prefill_ms = watch.lap_ms();
  for (int token = 0; token < decode_tokens; ++token) logits = session.decode(most_likely(logits));
  timings.decode_ms = watch.lap_ms();
  timings.decoded_tokens = decode_tokens;
  return timings;
}

// Loads and runs every method once: the time of loading, and the schema's Memory.
Json start(const Options& options, const Manifest& manifest) {
  forget_peak();
  const double libraries_rss = resident_mib();
  const auto libraries_pss = proportional_mib();
  Stopwatch watch;
  Session session(options.bundle, manifest, options.threads, false);
  const double load_ms = watch.lap_ms();
  const double loaded_rss = resident_mib();
  const auto loaded_pss = proportional_mib();
  const std::int32_t token =
      first_token(session, options, prompt_ids(session, manifest.prompt.first, options.prompt, options.control_tokens));
  session.decode(token);
  if (session.room() > 0) session.extend({token});
  const double ran_rss = resident_mib();
  const auto json = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"load_ms", load_ms},
          {"memory",
           {{"libraries_pss_mib", json(libraries_pss)},
            {"libraries_rss_mib", libraries_rss},
            {"loaded_pss_mib", json(loaded_pss)},
            {"loaded_rss_mib", loaded_rss},
            {"ran_pss_mib", json(proportional_mib())},
            {"ran_rss_mib", ran_rss},
            {"peak_rss_mib", std::max(peak_mib(), ran_rss)}}}};
}

// Median and quartiles, between samples where they fall between them.
Json to_phase(const std::vector<double>& samples_ms) {
  std::vector<double> sorted = samples_ms;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (place - std::floor(place)) * (sorted[above] - sorted[below]);
  };
  return {{"median_ms", at(0.5)}, {"low_ms", at(0.25)}, {"high_ms", at(0.75)}, {"samples_ms", samples_ms}};
}

Json to_phases(const std::vector<double>& loads_ms, const std::vector<Timings>& timings) {
  const auto phase = [&](const std::function<double(const Timings&)>& ms_of) {
    std::vector<double> samples;
    std::transform(timings.begin(), timings.end(), std::back_inserter(samples), ms_of);
    return to_phase(samples);
  };
  return {{"load_warm", to_phase(loads_ms)},
          {"preprocess", phase([](const Timings& one) { return one.preprocess_ms; })},
          {"vision", phase([](const Timings& one) { return one.vision_ms; })},
          {"prefill", phase([](const Timings& one) { return one.prefill_ms; })},
          {"decode", phase([](const Timings& one) { return one.decode_ms / one.decoded_tokens; })},
          {"first_token", phase([](const Timings& one) { return one.first_token_ms(); })}};
}

double size_mib(const fs::path& bundle) {
  double bytes = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(bundle)) {
    if (entry.is_regular_file()) bytes += static_cast<double>(entry.file_size());
  }
  return bytes / kMib;
}

Json facts_of(const Manifest& manifest) {
  Json stages = Json::array();
  for (const StageSpec& stage : manifest.stages) {
    stages.push_back({{"place", stage.in_tower ? "vision" : "layer"},
                      {"layer", stage.index},
                      {"pruner", stage.pruner},
                      {"kept_tokens", stage.num_kept}});
  }
  return {{"model", manifest.model},
          {"checkpoint", manifest.checkpoint},
          {"target", manifest.target},
          {"precision", manifest.precision},
          {"quantization", manifest.quantization},
          {"image", {manifest.image.height, manifest.image.width}},
          {"text_len", manifest.prompt.text_len},
          {"layers", manifest.kv.size()},
          {"pruner", manifest.pruners()},
          {"prune_layer", manifest.stages.empty() ? 0 : manifest.stages[manifest.has_tower()].index},
          {"visual_tokens", manifest.image.visual_tokens},
          {"kept_tokens", manifest.num_kept()},
          {"stages", stages}};
}

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S+00:00", &parts);
  return text.data();
}

std::string shell_command(const std::vector<std::string>& arguments) {
  const char* const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_";
  std::string command = "vlmp_runner";
  for (const std::string& argument : arguments) {
    std::string word = argument;
    if (word.empty() || word.find_first_not_of(plain) != std::string::npos) {
      for (std::size_t at = 0; (at = word.find('\'', at)) != std::string::npos; at += 5) word.replace(at, 1, "'\"'\"'");
      word = "'" + word + "'";
    }
    command += " " + word;
  }
  return to_valid_utf8(command);
}

void show(const Json& bundle) {
  for (const auto& [name, phase] : bundle["phases"].items()) {
    std::fprintf(stderr, "%-12s %9.2f ms (%.2f to %.2f)\n", name.c_str(), phase["median_ms"].get<double>(),
                 phase["low_ms"].get<double>(), phase["high_ms"].get<double>());
  }
  std::fprintf(stderr, "%-12s %9.1f MiB\n", "peak memory", bundle["memory"]["peak_rss_mib"].get<double>());
}

}  // namespace

void profile(const Options& options, const std::vector<std::string>& arguments) {
  const int runs = *options.runs;
  const Manifest manifest = read_manifest(options.bundle);
  if (options.decode_tokens > manifest.prompt.max_new_tokens) {
    fail("--decode-tokens ", options.decode_tokens, ": this bundle has room for ", manifest.prompt.max_new_tokens);
  }
  const Json machine = describe_machine(options.machine_kind.value_or(default_kind()));

  std::vector<double> loads_ms;
  Json memory;
  for (int run = 0; run <= runs; ++run) {  // the first one warms up
    const Json started = in_fresh_process([&] { return start(options, manifest); });
    if (run == 0) continue;
    loads_ms.push_back(started["load_ms"].get<double>());
    if (memory.is_null()) memory = started["memory"];
  }

  std::optional<Session> session(std::in_place, options.bundle, manifest, options.threads, false);
  const std::vector<std::int32_t> ids = prompt_ids(*session, manifest.prompt.first, options.prompt, options.control_tokens);
  std::vector<Timings> timings;
  for (int run = -options.warmup; run < runs; ++run) {
    const Timings timed = time_turn(*session, options.image, ids, options.decode_tokens);
    if (run >= 0) timings.push_back(timed);
  }

  const Picture photo = open_picture(options.image);
  const Json bundle = {{"name", to_valid_utf8(fs::canonical(options.bundle).filename().string())},
                       {"manifest", facts_of(manifest)},
                       {"runtime", runtime_name()},
                       {"size_mib", size_mib(options.bundle)},
                       {"phases", to_phases(loads_ms, timings)},
                       {"prefill_split", kSplit},
                       {"cold_cached_share", nullptr},
                       {"memory", memory}};
  const Json all = {{"schema_version", kProfileVersion},
                    {"created", now_utc()},
                    {"command", shell_command(arguments)},
                    {"machine", machine},
                    {"settings",
                     {{"runs", runs},
                      {"decode_tokens", options.decode_tokens},
                      {"threads", options.threads ? Json(*options.threads) : Json(nullptr)},
                      {"prompt", options.prompt},
                      {"photo", to_valid_utf8(options.image.filename().string())},
                      {"photo_size", {photo.width, photo.height}}}},
                    {"bundles", {bundle}}};
  show(bundle);
  if (options.json) write_file(*options.json, all.dump(2) + "\n");

  if (!options.etdump) return;
  session.reset();
  Session traced(options.bundle, manifest, options.threads, true);
  for (int run = 0; run <= runs; ++run) traced.decode(first_token(traced, options, ids));
  write_file(*options.etdump, traced.program().events());
}

}  // namespace vlmp
