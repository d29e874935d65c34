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

/** One question to an unpruned and a pruned bundle, and what each takes. */
class ComparePage(private val activity: MainActivity, private val app: DemoApp, saved: Saved?) : Page {
    override val root: View = activity.part(R.id.page_compare)
    private val demo = app.demo
    private val unpruned: Spinner = root.part(R.id.unpruned)
    private val pruned: Spinner = root.part(R.id.pruned)
    private val question: EditText = root.part(R.id.compare_question)
    private val compare: Button = root.part(R.id.compare)
    private val stop: Button = root.part(R.id.compare_stop)

    init {
        unpruned.chosen = saved?.getString(UNPRUNED)
        pruned.chosen = saved?.getString(PRUNED)
        compare.setOnClickListener { send() }
        stop.setOnClickListener { demo.stop() }
    }

    private fun send() {
        val chosen = listOf(unpruned, pruned).map { choice -> app.bundles.named(choice.selectedItem) ?: return }
        demo.compare(chosen, question.text.toString().trim().ifEmpty { activity.getString(R.string.question_hint) }, ANSWER_TOKENS)
    }

    override fun draw() {
        unpruned.offer(app.bundles.filter { !it.manifest.pruned }.map { it.name })
        pruned.offer(app.bundles.filter { it.manifest.pruned }.map { it.name })
        root.part<TextView>(R.id.compare_photo).text = photoLine(activity, demo.photo)
        compare.isEnabled = demo.free && demo.photo != null && unpruned.selectedItem != null && pruned.selectedItem != null
        stop.isEnabled = demo.phase == State.ANSWERING || demo.phase == State.LOADING
        root.part<ViewGroup>(R.id.compared).panels(demo.compared.map { panel(it) } + listOfNotNull(sum()))
    }

    private fun panel(each: Compared): Panel {
        val (timings, caches) = Pair(each.answer.timings, size(each.bundle.manifest.cacheBytes))
        val figures = activity.getString(R.string.compared, ms(timings.firstTokenMs), caches, ms(timings.prefillMs))
        return Panel(each.bundle.name, each.answer.text, figures)
    }

    private fun sum(): Panel? {
        if (demo.compared.size != 2) return null
        val (before, after) = demo.compared
        val time = after.answer.timings.firstTokenMs / before.answer.timings.firstTokenMs
        val memory = after.bundle.manifest.cacheBytes.toDouble() / before.bundle.manifest.cacheBytes
        return Panel(activity.getString(R.string.compare_sum, percent(time), percent(memory)), null, null)
    }

    private fun percent(share: Double) = String.format(Locale.ROOT, "%.0f %%", share * 100)

    override fun save(saved: Saved) {
        saved.putString(UNPRUNED, unpruned.chosen)
        saved.putString(PRUNED, pruned.chosen)
    }

    private companion object {
        const val UNPRUNED = "unpruned bundle"
        const val PRUNED = "pruned bundle"
    }
}

/** Which photo is asked about. */
fun photoLine(activity: MainActivity, photo: Photo?): String = if (photo == null) {
    activity.getString(R.string.needs_photo)
} else {
    activity.getString(R.string.photo_size, photo.name, photo.original.first, photo.original.second)
}
