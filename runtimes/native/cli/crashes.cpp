#include "crashes.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "error.h"
#include "vlmp.h"

namespace vlmp {
namespace {

#ifdef VLMP_SANITIZE
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Made in advance, since a crash leaves no room for anything: begin of the line, and whole lines.
std::string subject_line, crash_line, no_memory_line;
std::array<char, 512> fatal_line{};      // why ExecuTorch is about to end the process
std::atomic<bool> fatal{false};

[[noreturn]] void end_with(const char* line) {
  const std::size_t size = std::strlen(line);
  const auto written = ::write(STDERR_FILENO, line, size);
  ::_exit(written == static_cast<ssize_t>(size) ? 2 : 3);
}

// A damaged program can bring the libraries below ours to a fault that they do not notice themselves.
void end_on_signal(int) { end_with(fatal ? fatal_line.data() : crash_line.c_str()); }

// An exception in one of ExecuTorch's threads, or in what must not throw.
void end_on_exception() {
  try {
    if (std::current_exception()) std::rethrow_exception(std::current_exception());
  } catch (const std::bad_alloc&) {
    end_with(no_memory_line.c_str());
  } catch (...) {
  }
  std::abort();
}

void keep_fatal(void*, char level, const char* message) {
  if (level != 'F') return;
  std::snprintf(fatal_line.data(), fatal_line.size() - 1, "%s: ExecuTorch gave up: %.200s", subject_line.c_str(),
                one_line(message).c_str());
  fatal_line[std::strlen(fatal_line.data())] = '\n';  // the last byte stays zero
  fatal = true;
}

}  // namespace

void tell_crashes(const std::string& subject) {
  subject_line = subject;
  crash_line = subject + ": crashed while the program was loaded or run: it is damaged (export the model again), or " +
               "memory ran out\n";
  no_memory_line = subject + ": memory ran out\n";
  vlmp_set_log(keep_fatal, nullptr);
  std::set_terminate(end_on_exception);
  std::signal(SIGABRT, end_on_signal);
  if (kSanitized) return;  // the sanitizer has more to say
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(number, end_on_signal);
}

}  // namespace vlmp
