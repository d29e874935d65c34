#include "options.h"

#include <charconv>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "error.h"
#include "program.h"
#include "unicode.h"

namespace vlmp {

const char* const kUsage =
    R"(vlmp_runner BUNDLE --image FILE --prompt TEXT [options]

Answers a question about an image with an ExecuTorch bundle, or measures it with --runs.

  --image FILE          photo, PNG or JPEG
  --prompt TEXT         question
  --reply TEXT          next question of the chat; repeatable
  --control-tokens      take control tokens in them, as <|im_end|>, for what they are to the model, not for text
  --max-new-tokens N    longest answer (the bundle's)
  --ignore-end          go on behind end tokens, up to the longest answer
  --temperature F       sample with this temperature; 0 is greedy (0)
  --top-p F             sample from the most likely tokens that make up this share (1)
  --seed N              of sampling (0)
  --threads N           of ExecuTorch (its own choice)
  --logits FILE         write the logits before each token: float32 [tokens, vocabulary]
  --etdump FILE         write ExecuTorch's event trace
  --version             print the version
measuring:
  --runs N              timed first turns instead of an answer
  --warmup N            untimed ones before them (1)
  --decode-tokens N     tokens decoded in each; end tokens do not end it (16)
  --json FILE           write all figures, in the schema of vlmp-profile
  --machine-kind KIND   host or android (what the runner was built for)
)";

namespace {

constexpr int kMost = std::numeric_limits<int>::max();

template <typename Number>
Number whole(const std::string& option, const std::string& text, Number least, Number most) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < least || value > most) {
    fail(option, " ", in_quotes(text), ": must be a whole number from ", least, " to ", most);
  }
  return value;
}

double real(const std::string& option, const std::string& text, double least, double most) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size() || !(value >= least && value <= most)) {
    fail(option, " ", in_quotes(text), ": must be a number from ", least, " to ", most);
  }
  return value;
}

std::string utf8(const std::string& option, const std::string& text) {
  if (!is_utf8(text)) fail(option, " is not valid UTF-8");
  return text;
}

// What a measurement does not do, and what only it does.
const std::set<std::string> kAnswering = {"--reply", "--max-new-tokens", "--ignore-end", "--temperature",
                                          "--top-p", "--seed",           "--logits"};
const std::set<std::string> kMeasuring = {"--warmup", "--decode-tokens", "--json", "--machine-kind"};

void check_together(const Options& options, const std::set<std::string>& given) {
  for (const char* needed : {"--image", "--prompt"}) {
    if (given.count(needed) == 0) fail(needed, " is missing; --help tells more");
  }
  for (const std::string& option : options.runs ? kAnswering : kMeasuring) {
    if (given.count(option) != 0) fail(option, options.runs ? " does not go with --runs" : " needs --runs");
  }
  for (const char* option : {"--top-p", "--seed"}) {
    if (given.count(option) != 0 && options.temperature == 0) fail(option, " needs a --temperature above 0");
  }
  if (options.machine_kind && !options.json) fail("--machine-kind needs --json");
  if (options.etdump && (options.etdump == options.logits || options.etdump == options.json)) {
    fail("--etdump and ", options.runs ? "--json" : "--logits", " name the same file");
  }
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  using Reader = std::function<void(const std::string&, const std::string&)>;
  const auto to_int = [](auto& target, int least, int most = kMost) -> Reader {
    return [&target, least, most](const auto& option, const auto& text) {
      target = whole<int>(option, text, least, most);
    };
  };
  const auto to_real = [](double& target, double least, double most) -> Reader {
    return [&, least, most](const auto& option, const auto& text) { target = real(option, text, least, most); };
  };
  const auto to_path = [](auto& target) -> Reader {
    return [&target](const auto& option, const auto& text) {
      if (text.empty()) fail(option, " is empty: name a file");
      target = std::filesystem::path(text);
    };
  };
  const std::map<std::string, Reader> readers = {
      {"--image", to_path(options.image)},
      {"--prompt", [&](const auto& option, const auto& text) { options.prompt = utf8(option, text); }},
      {"--reply", [&](const auto& option, const auto& text) { options.replies.push_back(utf8(option, text)); }},
      {"--max-new-tokens", to_int(options.max_new_tokens, 1)},
      {"--threads", to_int(options.threads, 1, kMostThreads)},
      {"--temperature", to_real(options.temperature, 0.0, 100.0)},
      {"--top-p", to_real(options.top_p, 0.0, 1.0)},
      {"--seed",
       [&](const auto& option, const auto& text) {
         options.seed = whole<std::uint64_t>(option, text, 0, std::numeric_limits<std::uint64_t>::max());
       }},
      {"--logits", to_path(options.logits)},
      {"--etdump", to_path(options.etdump)},
      {"--runs", to_int(options.runs, 1)},
      {"--warmup", to_int(options.warmup, 0)},
      {"--decode-tokens", to_int(options.decode_tokens, 1)},
      {"--json", to_path(options.json)},
      {"--machine-kind",
       [&](const auto& option, const auto& text) {
         if (text != "host" && text != "android") fail(option, " ", in_quotes(text), ": must be host or android");
         options.machine_kind = text;
       }},
  };
  const std::map<std::string, bool*> flags = {{"--ignore-end", &options.ignore_end},
                                              {"--control-tokens", &options.control_tokens}};
  std::set<std::string> given;
  for (std::size_t place = 0; place < arguments.size(); ++place) {
    const std::string& argument = arguments[place];
    if (argument == "--help" || argument == "-h") {
      options.help = true;
      return options;
    }
    if (argument == "--version") {
      options.version = true;
      return options;
    }
    if (argument.rfind("--", 0) != 0) {
      if (!options.bundle.empty()) fail("one bundle at a time: ", in_quotes(argument), " is a second one");
      options.bundle = argument;
      continue;
    }
    const auto reader = readers.find(argument);
    const auto flag = flags.find(argument);
    if (flag == flags.end() && reader == readers.end()) fail("unknown option ", in_quotes(argument), "; --help tells more");
    if (!given.insert(argument).second && argument != "--reply") fail(argument, " is there twice");
    if (flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    if (place + 1 == arguments.size()) fail(argument, " needs a value");
    reader->second(argument, arguments[++place]);
  }
  if (options.bundle.empty()) fail("no bundle given; --help tells more");
  check_together(options, given);
  return options;
}

}  // namespace vlmp
