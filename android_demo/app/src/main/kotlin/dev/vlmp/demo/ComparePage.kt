package dev.vlmp.demo

import android.os.Bundle as Saved
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import dev.vlmp.engine.State
import java.util.Locale

/** One question to two bundles, as an unpruned and a pruned one, or two schedules, and what each takes. */
class ComparePage(private val activity: MainActivity, private val app: DemoApp, saved: Saved?) : Page {
    override val root: View = activity.part(R.id.page_compare)
    private val demo = app.demo
    private val one: Spinner = root.part(R.id.one_bundle)
    private val other: Spinner = root.part(R.id.other_bundle)
    private val question: EditText = root.part(R.id.compare_question)
    private val compare: Button = root.part(R.id.compare)
    private val stop: Button = root.part(R.id.compare_stop)

    init {
        one.chosen = saved?.getString(ONE)
        other.chosen = saved?.getString(OTHER)
        for (choice in listOf(one, other)) choice.onChoice { draw() }
        compare.setOnClickListener { send() }
        stop.setOnClickListener { demo.stop() }
    }

    private fun send() {
        val chosen = listOf(one, other).map { choice -> app.bundles.named(choice.selectedItem) ?: return }
        demo.compare(chosen, question.text.toString().trim().ifEmpty { activity.getString(R.string.question_hint) }, ANSWER_TOKENS)
    }

    override fun draw() {
        // An unpruned one comes first on one side, a pruned one on the other.
        val (pruned, unpruned) = app.bundles.partition { it.manifest.pruned }
        one.offer((unpruned + pruned).map { it.name })
        other.offer((pruned + unpruned).map { it.name })
        root.part<TextView>(R.id.compare_photo).text = photoLine(activity, demo.photo)
        compare.isEnabled = demo.free && demo.photo != null && one.selectedItem != other.selectedItem
        stop.isEnabled = demo.phase == State.ANSWERING || demo.phase == State.LOADING
        root.part<ViewGroup>(R.id.compared).children(R.layout.compared, demo.compared) { view, each -> show(view, each) }
        root.part<ViewGroup>(R.id.compare_sum).panels(listOfNotNull(sum()))
    }

    private fun show(view: View, each: Compared) {
        val (manifest, answer) = Pair(each.bundle.manifest, each.answer)
        val caches = size(manifest.cacheBytes)
        view.part<TextView>(R.id.head).show(each.bundle.name)
        view.part<TextView>(R.id.body).show(answer.text)
        view.part<TextView>(R.id.foot).show(
            activity.getString(R.string.compared, ms(answer.timings.firstTokenMs), caches, ms(answer.timings.prefillMs)),
        )
        view.part<ViewGroup>(R.id.compared_stages).children(R.layout.stage, answer.stages.indices.toList()) { stage, number ->
            val (tokens, ordered) = answer.keptBy(number, manifest)
            stage.part<KeptView>(R.id.stage_photo).show(demo.photo, manifest, tokens, ordered)
            stage.part<TextView>(R.id.stage_line).show(stageLine(activity, manifest.stages[number]))
        }
    }

    private fun sum(): Panel? {
        if (demo.compared.size != 2) return null
        val (before, after) = demo.compared
        val time = after.answer.timings.firstTokenMs / before.answer.timings.firstTokenMs
        val memory = after.bundle.manifest.cacheBytes.toDouble() / before.bundle.manifest.cacheBytes
        val sum = activity.getString(R.string.compare_sum, percent(time), percent(memory), after.bundle.name)
        return Panel(sum, null, null)
    }

    private fun percent(share: Double) = String.format(Locale.ROOT, "%.0f %%", share * 100)

    override fun save(saved: Saved) {
        saved.putString(ONE, one.chosen)
        saved.putString(OTHER, other.chosen)
    }

    private companion object {
        const val ONE = "one bundle"
        const val OTHER = "other bundle"
    }
}

/** Which photo is asked about. */
fun photoLine(activity: MainActivity, photo: Photo?): String = if (photo == null) {
    activity.getString(R.string.needs_photo)
} else {
    activity.getString(R.string.photo_size, photo.name, photo.original.first, photo.original.second)
}
