package dev.vlmp.demo

import android.net.Uri
import dev.vlmp.engine.Answer
import dev.vlmp.engine.Benchmark
import dev.vlmp.engine.BenchmarkSettings
import dev.vlmp.engine.End
import dev.vlmp.engine.EngineException
import dev.vlmp.engine.State
import dev.vlmp.engine.Stop
import java.io.IOException
import java.util.concurrent.Executor

/** A question with what is there of its answer. [answer] is null until it is over. */
class Turn(val question: String) {
    var text = ""
    var answer: Answer? = null
}

/** The same question to two bundles. */
class Compared(val bundle: Bundle, val answer: Answer)

/** How far a long task is, of [total] runs or bytes. */
class Progress(val what: String, val done: Long, val total: Long)

/** Tokens of an answer that warms a bundle up: one from the photo, one from the caches. */
private const val WARM_UP_TOKENS = 2

/**
 * All that the pages show, and all that they can ask for. It outlives the activity, so that turning the phone changes
 * nothing. Public members are for the main thread; the engine is called on [worker], one task at a time.
 */
class Demo(
    private val loader: ChatLoader,
    private val store: BundleStore,
    val history: History,
    private val worker: Executor,
    private val main: Executor,
) {
    var phase = State.EMPTY
        private set

    /** The bundle that is loaded. */
    @Volatile
    var loaded: Bundle? = null
        private set

    /** What went wrong last, null when nothing did. */
    var problem: Words? = null
        private set
    var photo: Photo? = null
        private set

    /** Where the photo is, also while that of an earlier process is still being read. */
    var photoUri: Uri? = null
        private set
    val turns = ArrayList<Turn>()

    /** The bundle that [turns] are with, null without any. */
    var asked: Bundle? = null
        private set
    val compared = ArrayList<Compared>()

    /** Whether somebody sees what changes. */
    var watched = false

    /** Whether the last task came to its end unwatched. */
    var endedUnseen = false
        private set

    /** How far an import is, null without one. */
    var importing: Progress? = null
        private set

    /** How far a benchmark is, null without one. */
    var measuring: Progress? = null
        private set

    /** Called after each change. */
    val listeners = LinkedHashSet<() -> Unit>()

    @Volatile
    private var chat: Chat? = null

    /** The chat that remembers [turns], null where none does. */
    private var remembering: Chat? = null

    private var running = false

    /** Ends the task that runs. */
    @Volatile
    private var halt = Stop()

    /** Whether another task can start. */
    val free get() = !running

    /** Whether a further question goes to the same photo. */
    val canReply
        get() = phase == State.READY && remembering != null && remembering === chat &&
            turns.lastOrNull()?.answer.let { it != null && it.end != End.FULL } &&
            turns.first().answer?.tokens?.isEmpty() == false // stopped before its first token, it leaves no picture

    /** Takes another photo, which begins a new conversation. An import goes on meanwhile, an answer does not. */
    fun choose(photo: Photo) {
        if (!free && importing == null) {
            return tell(Words(R.string.photo_refused))
        }
        forget()
        compared.clear()
        problem = null
        endedUnseen = false
        photoUri = photo.uri
        this.photo = photo
        changed()
    }

    /** Shows what a process has shown that has ended. Its caches went with it: the next question begins anew. */
    fun recall(shown: Shown) {
        photoUri = shown.photo
        asked = shown.asked
        turns += shown.turns
        compared += shown.compared
        changed()
    }

    /** Takes the photo of what was recalled, unless there is another one by now. */
    fun takeAgain(photo: Photo) {
        if (photoUri != photo.uri) return
        this.photo = photo
        changed()
    }

    /** Says something in the place where problems are told. */
    fun tell(problem: Words) {
        this.problem = problem
        changed()
    }

    /** Asks about the photo, with the bundle loaded first if it is not. */
    fun ask(bundle: Bundle, prompt: String, maxTokens: Int) = task {
        val photo = photo ?: return@task
        val follows = canReply && loaded?.name == bundle.name
        work {
            val chat = open(bundle)
            if (halt.asked) return@work
            val turn = Turn(prompt)
            show {
                if (!follows) forget()
                turns += turn
                asked = bundle
                remembering = chat
                enter(State.ANSWERING)
            }
            val onText = { text: String ->
                // A person may have asked to stop just before the turn began.
                if (halt.asked) chat.stop()
                show { turn.text += text }
            }
            val answer = try {
                if (follows) chat.reply(prompt, maxTokens, onText) else chat.ask(photo.picture, prompt, maxTokens, onText)
            } catch (error: Exception) {
                show { turns -= turn }
                throw error
            }
            show {
                turn.text = answer.text
                turn.answer = answer
                enter(State.READY)
            }
        }
    }

    /** The same question to each bundle in its turn, with the clock after another one that warms it up. */
    fun compare(bundles: List<Bundle>, prompt: String, maxTokens: Int) = task {
        val photo = photo ?: return@task
        compared.clear()
        remembering = null
        work {
            for (bundle in bundles) {
                if (halt.asked) break
                val chat = open(bundle)
                val onText = { _: String -> if (halt.asked) chat.stop() }
                show { enter(State.ANSWERING) }
                chat.ask(photo.picture, prompt, WARM_UP_TOKENS, onText)
                val answer = if (halt.asked) null else chat.ask(photo.picture, prompt, maxTokens, onText)
                show {
                    if (answer != null && answer.tokens.isNotEmpty()) compared += Compared(bundle, answer)
                    enter(State.READY)
                }
            }
            show { forget() }
        }
    }

    /** Times the bundles in turns, with nothing else in memory, and saves the figures unless it is stopped. */
    fun measure(benchmark: Benchmark, bundles: List<Bundle>, prompt: String, tokens: Int, runs: Int) = task {
        val photo = photo ?: return@task
        forget()
        measuring = Progress(photo.name, 0, runs.toLong() * bundles.size)
        val most = bundles.minOf { it.manifest.prompt.maxNewTokens }
        val settings = BenchmarkSettings(runs, minOf(tokens, most), null, prompt, photo.name)
        work {
            shut()
            show { if (phase != State.EMPTY) enter(State.EMPTY) }
            val folders = bundles.map { it.folder }
            val onProgress = { done: Int, all: Int -> show { measuring = Progress(photo.name, done.toLong(), all.toLong()) } }
            // Hashes were compared when the bundles were imported.
            benchmark.run(folders, photo.picture, settings, false, onProgress, halt)?.let { history.save(it) }
        }
    }

    /** Ends what is running: within a token, or at the next block of an import. */
    fun stop() {
        halt.ask()
        if (phase == State.ANSWERING) enter(State.STOPPING)
        chat?.stop()
        changed()
    }

    /** Copies a bundle into the store, and does [then] once it is there and another task can start. */
    fun import(source: BundleSource, then: () -> Unit = {}) = task {
        importing = Progress(source.name, 0, 1)
        work(then) {
            var shown = 0L
            store.import(source) { done, total ->
                if (done - shown > total / 100) {
                    shown = done
                    show { importing = Progress(source.name, done, total) }
                }
                !halt.asked
            }
        }
    }

    /** Removes a bundle, which is unloaded first. */
    fun delete(bundle: Bundle) = task {
        work {
            if (loaded?.name == bundle.name) {
                shut()
                show {
                    forget()
                    enter(State.EMPTY)
                }
            }
            store.delete(bundle)
        }
    }

    private fun task(begin: () -> Unit) {
        if (!free) return
        halt = Stop()
        problem = null
        endedUnseen = false
        begin()
        changed()
    }

    /** Runs [body] on the worker. Whatever it throws ends as a line, and leaves a state from which one can go on. */
    private fun work(then: () -> Unit = {}, body: () -> Unit) {
        running = true
        worker.execute {
            val trouble = try {
                body()
                null
            } catch (_: ImportCancelled) {
                Words(R.string.import_cancelled)
            } catch (error: Refused) {
                error.words
            } catch (error: EngineException) {
                Words.of(error.message.orEmpty())
            } catch (error: IOException) {
                Words(R.string.file_failed, error.message.orEmpty())
            } catch (_: OutOfMemoryError) {
                shut()
                Words(R.string.memory_ran_out)
            } catch (error: Exception) {
                shut() // nobody knows what state the engine is in
                Words.of("${error.javaClass.simpleName}: ${error.message}")
            }
            main.execute {
                running = false
                importing = null
                measuring = null
                problem = trouble
                when {
                    phase == State.LOADING -> enter(if (loaded == null) State.FAILED else State.READY)
                    phase == State.ANSWERING || phase == State.STOPPING -> enter(State.READY)
                }
                if (phase == State.READY && loaded == null) enter(State.EMPTY)
                endedUnseen = !watched && trouble == null
                if (trouble == null) then()
                changed()
            }
        }
    }

    /** On the worker: the chat of a bundle, loaded if another one is. */
    private fun open(bundle: Bundle): Chat {
        chat?.let { if (loaded?.name == bundle.name) return it }
        shut()
        show { enter(State.LOADING) }
        val opened = loader.load(bundle.folder)
        chat = opened
        loaded = bundle
        show { enter(State.READY) }
        return opened
    }

    private fun forget() {
        turns.clear()
        asked = null
        remembering = null
    }

    private fun shut() {
        chat?.close()
        chat = null
        loaded = null
    }

    private fun show(change: () -> Unit) = main.execute {
        change()
        changed()
    }

    private fun enter(next: State) {
        check(phase.leadsTo(next)) { "$phase does not lead to $next" }
        phase = next
    }

    private fun changed() = listeners.toList().forEach { it() }
}
