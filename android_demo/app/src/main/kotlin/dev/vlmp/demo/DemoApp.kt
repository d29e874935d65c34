package dev.vlmp.demo

import android.app.Application
import android.os.Handler
import android.os.Looper
import dev.vlmp.engine.Benchmark
import dev.vlmp.engine.OnnxRuntime
import dev.vlmp.engine.RuntimeOpener
import java.io.File
import java.time.Instant
import java.time.temporal.ChronoUnit
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** Holds what outlives an activity. */
open class DemoApp : Application() {
    /** What opens bundles. */
    open val loader: ChatLoader by lazy { EngineLoader(runtimes) { phone.freeMemory() } }

    /** What runs bundles, by their target. */
    open val runtimes: Map<String, RuntimeOpener> = mapOf("onnx" to OnnxRuntime)

    /** Where bundles, photos and the engine are handled: one thread, so that there is one task at a time. */
    open val worker: Executor by lazy { Executors.newSingleThreadExecutor() }
    open val main: Executor by lazy { Handler(Looper.getMainLooper()).let { handler -> Executor { handler.post(it) } } }

    val phone by lazy { Phone(this) }
    val benchmark by lazy {
        val now = { Instant.now().truncatedTo(ChronoUnit.MILLIS).toString() }
        Benchmark(runtimes, phone.machine(), phone::condition, now, phone::memory, phone::freeMemory)
    }
    open val demo by lazy { newDemo() }

    /** The imported bundles, by name: those without pruning first, since others are compared with them. */
    val bundles: List<Bundle> get() = store.list().sortedBy { it.manifest.pruned }

    /** Folders that `adb push` has left where it may. */
    fun pushed(): List<File> = getExternalFilesDir(AssetSource.FOLDER)?.listFiles { file -> file.isDirectory }.orEmpty().sorted()

    /** Names of the APK's own bundles that are not among the imported ones. */
    fun packed(): List<String> = assets.list(AssetSource.FOLDER).orEmpty()
        .map { it.substringBefore('/') }.distinct() // Robolectric lists what is in folders, too
        .filter { name -> bundles.none { it.name == name } }

    /** What outlives the process. */
    val shown by lazy { ShownFile(File(filesDir, "shown.json")) }

    protected fun newDemo() = Demo(loader, store, History(File(filesDir, "benchmarks")), worker, main)
        .also { it.listeners += Watch(this, it) }

    private val store by lazy { BundleStore(File(filesDir, AssetSource.FOLDER)) }
}
