package dev.vlmp.demo

import android.content.Intent
import android.os.Bundle as Saved
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.TextView
import java.io.File

/** Several bundles in turns: median and spread of each phase, heat, memory. All that was measured stays, as files. */
class BenchmarkPage(private val activity: MainActivity, private val app: DemoApp, saved: Saved?) : Page {
    override val root: View = activity.part(R.id.page_benchmark)
    private val demo = app.demo
    private val chosen: ViewGroup = root.part(R.id.chosen)
    private val runs: EditText = root.part(R.id.runs)
    private val measure: Button = root.part(R.id.benchmark)
    private val stop: Button = root.part(R.id.benchmark_stop)
    private val unticked = LinkedHashSet(saved?.getStringArrayList(UNTICKED).orEmpty())

    init {
        measure.setOnClickListener { begin() }
        stop.setOnClickListener { demo.stop() }
    }

    private val boxes get() = List(chosen.childCount) { chosen.getChildAt(it) as CheckBox }

    private fun begin() {
        val bundles = app.bundles.filter { it.name !in unticked }
        val rounds = (runs.text.toString().toIntOrNull() ?: 1).coerceAtLeast(1)
        demo.measure(app.benchmark, bundles, activity.getString(R.string.question_hint), TOKENS, rounds)
    }

    /** The unpruned bundles come first: others are compared with the first one. */
    override fun draw() {
        val names = app.bundles.map { it.name }
        if (boxes.map { it.text.toString() } != names) {
            chosen.removeAllViews()
            names.forEach { name ->
                val box = CheckBox(activity).apply {
                    text = name
                    isChecked = name !in unticked
                    minHeight = (48 * resources.displayMetrics.density).toInt()
                    setOnCheckedChangeListener { _, ticked ->
                        if (ticked) unticked -= name else unticked += name
                        draw()
                    }
                }
                chosen.addView(box)
            }
        }
        val running = demo.measuring
        root.part<TextView>(R.id.benchmark_photo).text = when (running) {
            null -> photoLine(activity, demo.photo)
            else -> activity.getString(R.string.benchmark_running, minOf(running.done + 1, running.total), running.total)
        }
        measure.isEnabled = demo.free && demo.photo != null && boxes.any { it.isChecked }
        stop.isEnabled = running != null
        root.part<ViewGroup>(R.id.measured).panels(demo.history.list().map { panel(it) })
    }

    private fun panel(measured: Measured): Panel {
        val head = activity.getString(R.string.measured_head, measured.time, measured.photo, measured.runs)
        val figures = measured.bundles.map { bundle ->
            val lines = bundle.phases.map {
                activity.getString(R.string.phase_line, it.name, ms(it.median), ms(it.low), ms(it.high))
            }
            (listOf(bundle.name) + lines).joinToString("\n")
        }
        val heat = measured.heat.joinToString().ifEmpty { activity.getString(R.string.heat_unknown) }
        val foot = activity.getString(R.string.heat, heat, ms(measured.bundles.maxOf { it.peak }))
        val share = Press(
            activity.getString(R.string.share), activity.getString(R.string.share_named, measured.time), true,
        ) { share(measured) }
        val delete = Press(
            activity.getString(R.string.delete), activity.getString(R.string.delete_named, measured.time), true,
        ) { askToDelete(activity, measured.time) { forget(measured) } }
        return Panel(head, figures.joinToString("\n\n"), foot, share, delete)
    }

    private fun forget(measured: Measured) {
        demo.history.delete(measured)
        draw()
    }

    private fun share(measured: Measured) {
        val lent = File(LentFiles.folder(activity), measured.file.name)
        measured.file.copyTo(lent, overwrite = true)
        val intent = Intent(Intent.ACTION_SEND).setType("application/json")
            .putExtra(Intent.EXTRA_STREAM, LentFiles.uri(lent.name))
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        activity.startActivity(Intent.createChooser(intent, null))
    }

    override fun save(saved: Saved) = saved.putStringArrayList(UNTICKED, ArrayList(unticked))

    private companion object {
        const val UNTICKED = "unticked bundles"

        /** Tokens of a timed answer, unless a bundle allows less. */
        const val TOKENS = 32
    }
}
