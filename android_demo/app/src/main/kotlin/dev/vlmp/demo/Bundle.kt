package dev.vlmp.demo

import dev.vlmp.engine.Manifest
import dev.vlmp.engine.Timings
import dev.vlmp.engine.parseManifest
import java.io.File

const val MANIFEST_NAME = "manifest.json"

/** A bundle on this phone. Throws BadBundle where its manifest is none. */
class Bundle(val folder: File) {
    val name: String = folder.name
    val manifest = parseManifest(File(folder, MANIFEST_NAME).readText(), MANIFEST_NAME)
}

fun List<Bundle>.named(name: Any?): Bundle? = firstOrNull { it.name == name }

/** Whether any visual token is left out somewhere. */
val Manifest.pruned get() = stages.any { it.numKept < it.tokens }
/** Whether the last stage tells in which order it chose; `none` chooses nothing. */
val Manifest.ordered get() = stages.lastOrNull()?.let { it.numKept < it.tokens } ?: false
val Manifest.pruner get() = stages.joinToString("+") { it.pruner }

/** Mean of the tokens after the first, in milliseconds; null without any. */
val Timings.decodeTokenMs get() = if (decodeMs.isEmpty()) null else decodeMs.sum() / decodeMs.size
