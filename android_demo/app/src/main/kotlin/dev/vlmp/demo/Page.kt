package dev.vlmp.demo

import android.app.Activity
import android.app.AlertDialog
import android.os.Bundle as Saved
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import java.util.Locale

/** One of the four pages. */
interface Page {
    val root: View

    /** Shows what the demo is at now. */
    fun draw()

    /** Keeps what was chosen on it, for the next activity or process. What was typed is kept by Android. */
    fun save(saved: Saved)
}

/** Tokens of an answer at most. */
const val ANSWER_TOKENS = 128

/** Shows a text, or nothing and takes no room. */
fun TextView.show(text: CharSequence?) {
    visibility = if (text.isNullOrEmpty()) View.GONE else View.VISIBLE
    if (this.text.toString() != text?.toString().orEmpty()) this.text = text
}

fun View.visible(seen: Boolean) {
    visibility = if (seen) View.VISIBLE else View.GONE
}

/** What is chosen, or is to be: it waits in the tag until it is offered, which a page does when it is first seen. */
var Spinner.chosen: String?
    get() = (selectedItem ?: tag) as String?
    set(choice) {
        tag = choice
    }

/** Offers [choices], and keeps what was chosen while that is one of them. */
fun Spinner.offer(choices: List<String>) {
    val now = List(adapter?.count ?: 0) { adapter.getItem(it) as String }
    if (now == choices) return
    val chosen = chosen
    val all = ArrayAdapter(context, android.R.layout.simple_spinner_item, choices)
    all.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
    adapter = all
    setSelection(maxOf(0, choices.indexOf(chosen)))
}

fun Spinner.onChoice(act: () -> Unit) {
    onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
        override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = act()

        override fun onNothingSelected(parent: AdapterView<*>?) = Unit
    }
}

/** What a panel shows, and what its buttons do, two at most. */
class Panel(val head: String, val body: String?, val foot: String?, vararg val presses: Press)

class Press(val label: String, val description: String, val enabled: Boolean, val act: () -> Unit)

/** Makes the children one of a layout for each of [all]. Those that are there are filled anew: a reader keeps its place. */
fun <T> ViewGroup.children(layout: Int, all: List<T>, fill: (View, T) -> Unit) {
    while (childCount > all.size) removeViewAt(childCount - 1)
    while (childCount < all.size) LayoutInflater.from(context).inflate(layout, this)
    all.forEachIndexed { index, each -> fill(getChildAt(index), each) }
}

/** Makes the children of a column these panels. */
fun ViewGroup.panels(all: List<Panel>) {
    children(R.layout.panel, all) { view, panel ->
        view.part<TextView>(R.id.head).show(panel.head)
        view.part<TextView>(R.id.body).show(panel.body)
        view.part<TextView>(R.id.foot).show(panel.foot)
        BUTTONS.forEachIndexed { place, id ->
            val (button, press) = Pair(view.part<Button>(id), panel.presses.getOrNull(place))
            button.visible(press != null)
            if (press == null) return@forEachIndexed
            button.text = press.label
            button.contentDescription = press.description
            button.isEnabled = press.enabled
            button.setOnClickListener { press.act() }
        }
    }
}

private val BUTTONS = listOf(R.id.act, R.id.act_too)

/** Asks before something is deleted. */
fun askToDelete(activity: Activity, name: String, delete: () -> Unit) {
    AlertDialog.Builder(activity).setMessage(activity.getString(R.string.delete_really, name))
        .setPositiveButton(R.string.delete) { _, _ -> delete() }
        .setNegativeButton(R.string.cancel, null)
        .show()
}

/** Milliseconds as a person reads them. */
fun ms(value: Double): String = String.format(Locale.ROOT, if (value < 10) "%.1f" else "%.0f", value)

/** Bytes as a person reads them. */
fun size(bytes: Long): String = if (bytes < 10L shl 20) {
    String.format(Locale.ROOT, "%.1f MiB", bytes / 1048576.0)
} else {
    mebibytes(bytes)
}

/** A view of a layout that is known to have it. */
fun <T : View> View.part(id: Int): T = checkNotNull(findViewById<T>(id))

fun <T : View> Activity.part(id: Int): T = checkNotNull(findViewById<T>(id))
