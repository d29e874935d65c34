package dev.vlmp.demo

import android.os.Bundle as Saved
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import dev.vlmp.engine.Answer
import dev.vlmp.engine.End
import dev.vlmp.engine.Manifest
import dev.vlmp.engine.StageSpec
import dev.vlmp.engine.State

/** A photo, questions about it, streamed answers, and which visual tokens were kept. */
class AskPage(private val activity: MainActivity, private val app: DemoApp, saved: Saved?) : Page {
    override val root: View = activity.part(R.id.page_ask)
    private val demo = app.demo
    private val photo: KeptView = root.part(R.id.photo)
    private val photoLine: TextView = root.part(R.id.photo_line)
    private val kept: View = root.part(R.id.kept)
    private val stages: Spinner = root.part(R.id.stages)
    private val shown: SeekBar = root.part(R.id.shown)
    private val shownLine: TextView = root.part(R.id.shown_line)
    private val turns: ViewGroup = root.part(R.id.turns)
    private val bundle: Spinner = root.part(R.id.bundle)
    private val question: EditText = root.part(R.id.question)
    private val ask: Button = root.part(R.id.ask)
    private val stop: Button = root.part(R.id.stop)

    /** The answer whose tokens the slider is set to. */
    private var drawn: Answer? = null

    init {
        bundle.chosen = saved?.getString(BUNDLE)
        root.part<Button>(R.id.pick).setOnClickListener { activity.pickPhoto() }
        root.part<Button>(R.id.take).setOnClickListener { activity.takePhoto() }
        ask.setOnClickListener { send() }
        stop.setOnClickListener { demo.stop() }
        stages.onChoice { drawKept(moved = true) }
        bundle.onChoice { draw() }
        shown.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(bar: SeekBar?, progress: Int, fromUser: Boolean) = drawKept(moved = false)

            override fun onStartTrackingTouch(bar: SeekBar?) = Unit

            override fun onStopTrackingTouch(bar: SeekBar?) = Unit
        })
    }

    private fun send() {
        val chosen = app.bundles.named(bundle.selectedItem) ?: return
        val asked = question.text.toString().trim().ifEmpty { activity.getString(R.string.question_hint) }
        question.text.clear()
        demo.ask(chosen, asked, ANSWER_TOKENS)
    }

    override fun draw() {
        val now = demo.photo
        photoLine.text = if (now == null) {
            activity.getString(R.string.no_photo)
        } else {
            activity.getString(R.string.photo_size, now.name, now.original.first, now.original.second)
        }
        photo.visible(now != null)
        bundle.offer(app.bundles.map { it.name })
        turns.panels(demo.turns.map { panel(it) })
        val follows = demo.canReply && demo.loaded?.name == bundle.selectedItem
        ask.text = activity.getString(if (follows) R.string.reply else R.string.ask)
        ask.isEnabled = demo.free && now != null && bundle.selectedItem != null
        stop.isEnabled = demo.phase == State.ANSWERING || demo.phase == State.LOADING
        val first = demo.turns.firstOrNull()?.answer
        if (first !== drawn) {
            drawn = first
            val stages = demo.asked?.manifest?.stages.orEmpty()
            this.stages.offer(stages.map { stageLine(activity, it) })
            this.stages.setSelection(maxOf(0, stages.size - 1))
            drawKept(moved = true)
        } else {
            drawKept(moved = false)
        }
    }

    private fun panel(turn: Turn): Panel {
        val answer = turn.answer
        val decode = answer?.timings?.decodeTokenMs?.let { ms(it) } ?: activity.getString(R.string.nothing)
        val figures = when {
            answer == null -> null
            answer.stages.isEmpty() ->
                activity.getString(R.string.figures_reply, ms(answer.timings.firstTokenMs), decode, answer.tokens.size)
            else -> activity.getString(
                R.string.figures, ms(answer.timings.firstTokenMs), ms(answer.timings.visionMs), ms(answer.timings.prefillMs),
                decode, answer.tokens.size,
            )
        }
        val end = when (answer?.end) {
            End.STOPPED -> activity.getString(R.string.was_stopped)
            End.FULL -> activity.getString(R.string.no_room)
            End.LIMIT -> activity.getString(R.string.at_limit)
            // Turns that fail are taken back, so this one is of a process that has ended.
            else -> if (answer == null && demo.free) activity.getString(R.string.cut_off) else null
        }
        val head = activity.getString(R.string.question_line, turn.question)
        return Panel(head, turn.text.ifEmpty { "…" }, listOfNotNull(figures, end).joinToString(" "))
    }

    /** Draws the photo with the tokens of the chosen stage. [moved]: another stage or answer, of which all are shown. */
    private fun drawKept(moved: Boolean) {
        val answer = drawn
        val manifest = demo.asked?.manifest
        val drawable = demo.photo != null && manifest != null && answer?.stages?.isNotEmpty() == true
        kept.visible(drawable)
        if (!drawable) {
            photo.show(demo.photo, null, IntArray(0), false)
            return
        }
        val stage = stages.selectedItemPosition.coerceIn(0, answer.stages.size - 1)
        val (tokens, ordered) = answer.keptBy(stage, manifest)
        if (moved) {
            shown.max = tokens.size
            shown.progress = tokens.size
        }
        shown.visible(ordered)
        val seen = if (ordered) tokens.copyOf(shown.progress.coerceIn(0, tokens.size)) else tokens
        photo.show(demo.photo, manifest, seen, ordered)
        val line = if (ordered) {
            activity.getString(R.string.shown, seen.size, tokens.size)
        } else {
            activity.getString(R.string.shown_unordered, tokens.size)
        }
        val padded = photo.onPadding()
        shownLine.text = if (padded > 0) activity.getString(R.string.on_padding, line, padded) else line
    }

    override fun save(saved: Saved) = saved.putString(BUNDLE, bundle.chosen)

    private companion object {
        const val BUNDLE = "asked bundle"
    }
}

/** Where a stage stands, and what it keeps. */
fun stageLine(activity: MainActivity, stage: StageSpec): String = activity.getString(
    if (stage.inTower) R.string.stage_in_tower else R.string.stage, stage.index, stage.numKept, stage.tokens,
)

/** Tokens that a stage has kept, and whether they are in the order of selection, which is known of the last one only. */
fun Answer.keptBy(stage: Int, manifest: Manifest): Pair<IntArray, Boolean> {
    val ordered = stage == stages.size - 1 && order.isNotEmpty() && manifest.ordered
    return Pair(if (ordered) order else stages[stage], ordered)
}
