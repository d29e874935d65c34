package dev.vlmp.engine

import java.io.File
import org.junit.jupiter.api.Assumptions.assumeTrue

/** Exported bundles of the conformance files' `steps`, in the folder of the property `vlmp.bundles`. */
object Bundles {
    private val folder = System.getProperty("vlmp.bundles").orEmpty().let { if (it.isEmpty()) null else File(it) }

    /** Skips the test where there is none. */
    fun folder(name: String): File {
        val found = folder?.let { File(it, name) }
        assumeTrue(
            found != null && found.isDirectory,
            "no bundle $name: -Dvlmp.bundles=FOLDER (android_demo/engine/README.md)",
        )
        return found!!
    }

    fun photo(name: String): Picture = DesktopPicture.read(File(ConformanceFiles.folder, "steps/$name"))
}
