package dev.vlmp.demo

import android.content.Intent
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.TextView
import java.io.File

/** Several bundles in turns: median and spread of each phase, heat, memory, and the figures as a file. */
class BenchmarkPage(private val activity: MainActivity, private val app: DemoApp) : Page {
    override val root: View = activity.part(R.id.page_benchmark)
    private val demo = app.demo
    private val chosen: ViewGroup = root.part(R.id.chosen)
    private val runs: EditText = root.part(R.id.runs)
    private val measure: Button = root.part(R.id.benchmark)
    private val stop: Button = root.part(R.id.benchmark_stop)
    private val share: Button = root.part(R.id.share)

    init {
        measure.setOnClickListener { begin() }
        stop.setOnClickListener { demo.stop() }
        share.setOnClickListener { share() }
    }

    private val boxes get() = List(chosen.childCount) { chosen.getChildAt(it) as CheckBox }

    private fun begin() {
        val names = boxes.filter { it.isChecked }.map { it.text.toString() }
        val bundles = app.bundles.filter { it.name in names }
        val rounds = (runs.text.toString().toIntOrNull() ?: 1).coerceAtLeast(1)
        demo.measure(bundles, activity.getString(R.string.question_hint), TOKENS, rounds, app.phone)
    }

    /** The unpruned bundles come first: others are compared with the first one. */
    override fun draw() {
        val names = app.bundles.map { it.name }
        if (boxes.map { it.text.toString() } != names) {
            chosen.removeAllViews()
            names.forEach { name ->
                val box = CheckBox(activity).apply {
                    text = name
                    isChecked = true
                    minHeight = (48 * resources.displayMetrics.density).toInt()
                    setOnCheckedChangeListener { _, _ -> draw() }
                }
                chosen.addView(box)
            }
        }
        val running = demo.progress?.takeIf { demo.phase.busy && it.total > 0 }
        root.part<TextView>(R.id.benchmark_photo).text = when (running) {
            null -> photoLine(activity, demo.photo)
            else -> activity.getString(R.string.benchmark_running, running.done + 1, running.total)
        }
        measure.isEnabled = demo.free && demo.photo != null && boxes.any { it.isChecked }
        stop.isEnabled = running != null
        share.isEnabled = demo.benchmark != null
        val made = demo.benchmark
        root.part<ViewGroup>(R.id.measured).panels(made?.bundles?.map { panel(made, it) }.orEmpty())
    }

    private fun panel(made: Benchmark, bundle: Bundle): Panel {
        val lines = made.phases(bundle).map { (name, samples) ->
            activity.getString(R.string.phase_line, name, ms(samples.median), ms(samples.low), ms(samples.high))
        }
        val heat = app.phone.thermal() ?: activity.getString(R.string.heat_unknown)
        return Panel(
            bundle.name, lines.joinToString("\n"), activity.getString(R.string.heat, heat, ms(app.phone.peak())),
        )
    }

    private fun share() {
        val made = demo.benchmark ?: return
        File(LentFiles.folder(activity), FILE).writeText(made.json().toString(2))
        val intent = Intent(Intent.ACTION_SEND).setType("application/json")
            .putExtra(Intent.EXTRA_STREAM, LentFiles.uri(FILE))
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        activity.startActivity(Intent.createChooser(intent, null))
    }

    companion object {
        const val FILE = "vlmp-benchmark.json"

        /** Tokens of a timed answer. */
        const val TOKENS = 32
    }
}
