package dev.vlmp.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle as Saved
import android.provider.MediaStore
import android.view.View
import android.view.WindowInsets
import android.widget.RadioGroup
import android.widget.TextView
import dev.vlmp.engine.State
import java.io.File
import java.io.IOException

/** The one screen: four pages over one [Demo], which outlives it. */
class MainActivity : Activity() {
    private val app get() = application as DemoApp
    private val demo get() = app.demo
    private lateinit var pages: Map<Int, Page>
    private val render = { draw() }

    override fun onCreate(saved: Saved?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        part<View>(R.id.main).setOnApplyWindowInsetsListener { view, insets -> insets.also { keepOffBars(view, it) } }
        pages = mapOf(
            R.id.tab_ask to AskPage(this, app, saved),
            R.id.tab_compare to ComparePage(this, app, saved),
            R.id.tab_bundles to BundlesPage(this, app),
            R.id.tab_benchmark to BenchmarkPage(this, app, saved),
        )
        part<RadioGroup>(R.id.tabs).apply {
            setOnCheckedChangeListener { _, _ -> draw() }
            if (saved == null) check(R.id.tab_ask)
        }
        if (saved == null) {
            takeShared(intent)
            importPacked()
        } else if (demo.photoUri == null) {
            recall()
        }
    }

    override fun onStart() {
        super.onStart()
        demo.listeners += render
        demo.watched = true
        draw()
    }

    override fun onStop() {
        demo.listeners -= render
        demo.watched = false
        super.onStop()
    }

    /** What is not in the views, for the case that Android ends the process in the background. */
    override fun onSaveInstanceState(saved: Saved) {
        super.onSaveInstanceState(saved)
        pages.values.forEach { it.save(saved) }
        app.shown.save(demo) // also in the middle of an answer
    }

    private fun recall() {
        val shown = app.shown.read(app.bundles) ?: return
        demo.recall(shown)
        shown.photo?.let { open(it, demo::takeAgain) }
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        takeShared(intent)
    }

    // --- What other apps do for this one ---------------------------------------------------------------------------

    /** Starts an app that does what is asked, if there is one. */
    fun start(intent: Intent, request: Int) {
        try {
            startActivityForResult(intent, request)
        } catch (_: ActivityNotFoundException) {
            demo.tell(Words(R.string.no_app))
        }
    }

    fun pickPhoto() = start(Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE), PICK)

    fun takePhoto() {
        val target = LentFiles.uri(CAMERA_FILE)
        File(LentFiles.folder(this), CAMERA_FILE).delete()
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE).putExtra(MediaStore.EXTRA_OUTPUT, target)
        intent.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        start(intent, TAKE)
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        if (result != RESULT_OK) return
        val chosen = data?.data
        when (request) {
            PICK -> chosen?.let { open(it) }
            TAKE -> open(LentFiles.uri(CAMERA_FILE))
            FOLDER -> chosen?.let { demo.import(TreeSource(contentResolver, it)) }
            ZIP -> chosen?.let { demo.import(ZipSource(contentResolver, it)) }
        }
    }

    private fun takeShared(intent: Intent) {
        if (intent.action != Intent.ACTION_SEND) return
        shared(intent)?.let { open(it) }
    }

    private fun shared(intent: Intent): Uri? = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
        intent.getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java)
    } else {
        @Suppress("DEPRECATION")
        intent.getParcelableExtra(Intent.EXTRA_STREAM)
    }

    /** Reads a photo beside the main thread, since it may be large or far away. */
    private fun open(uri: Uri, use: (Photo) -> Unit = demo::choose) {
        val resolver = applicationContext.contentResolver
        app.worker.execute {
            val read = try {
                readPhoto(resolver, uri)
            } catch (error: Refused) {
                error.words
            } catch (error: IOException) {
                Words(R.string.photo_not_read, error.message.orEmpty())
            } catch (error: RuntimeException) {
                // Whatever the app that lends it throws, a refused permission among others.
                Words(R.string.photo_not_read, error.message.orEmpty())
            } catch (_: OutOfMemoryError) {
                Words(R.string.photo_too_large)
            }
            app.main.execute {
                if (read is Photo) use(read) else demo.tell(read as Words)
            }
        }
    }

    /** The first start brings the APK's own bundles in, by the same way as any other. */
    private fun importPacked() {
        val settings = getSharedPreferences("demo", MODE_PRIVATE)
        if (settings.getBoolean(PACKED, false)) return
        fun next(names: List<String>) {
            if (names.isEmpty()) {
                settings.edit().putBoolean(PACKED, true).apply()
            } else {
                demo.import(AssetSource(assets, names.first())) { next(names.drop(1)) }
            }
        }
        next(app.packed())
    }

    // --- What is seen ------------------------------------------------------------------------------------------------

    private fun draw() {
        val tab = part<RadioGroup>(R.id.tabs).checkedRadioButtonId
        for ((id, page) in pages) {
            page.root.visibility = if (id == tab) View.VISIBLE else View.GONE
            if (id == tab) page.draw()
        }
        val status = when (demo.phase) {
            State.EMPTY -> getString(if (demo.measuring == null) R.string.phase_empty else R.string.phase_measuring)
            State.LOADING -> getString(R.string.phase_loading)
            State.READY -> getString(R.string.phase_ready, demo.loaded?.name.orEmpty())
            State.ANSWERING -> getString(R.string.phase_answering)
            State.STOPPING -> getString(R.string.phase_stopping)
            State.FAILED -> getString(R.string.phase_failed)
        }
        part<TextView>(R.id.status).text = if (demo.endedUnseen) getString(R.string.ended_unseen, status) else status
        part<TextView>(R.id.problem).show(demo.problem?.text(resources))
        part<View>(R.id.main).keepScreenOn = !demo.free
    }

    /** From Android 15 on an app draws under the system's bars. */
    @Suppress("DEPRECATION")
    private fun keepOffBars(view: View, insets: WindowInsets) = view.setPadding(
        insets.systemWindowInsetLeft, insets.systemWindowInsetTop,
        insets.systemWindowInsetRight, insets.systemWindowInsetBottom,
    )

    companion object {
        const val PICK = 1
        const val TAKE = 2
        const val FOLDER = 3
        const val ZIP = 4
        private const val CAMERA_FILE = "photo.jpg"
        private const val PACKED = "packed bundles were imported"
    }
}
