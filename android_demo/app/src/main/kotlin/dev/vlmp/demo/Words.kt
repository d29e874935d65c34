package dev.vlmp.demo

import android.content.res.Resources

/** A line for people: one of strings.xml, and what stands in its gaps. */
class Words(private val id: Int, private vararg val gaps: Any) {
    fun text(resources: Resources): String = resources.getString(id, *gaps)

    companion object {
        /** A line of the engine or of Android, as it comes: the engine speaks English only. */
        fun of(line: String) = Words(R.string.as_it_comes, line)
    }
}

/** What a person can mend, in words: no stack trace is of use. */
class Refused(id: Int, vararg gaps: Any) : Exception() {
    val words = Words(id, *gaps)
}
