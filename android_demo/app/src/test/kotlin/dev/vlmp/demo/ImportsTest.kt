package dev.vlmp.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.provider.DocumentsContract
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf

/** Bundles and photos that come in through the system's pickers. */
class ImportsTest : PagesTest() {
    /** Presses a button that opens another app, which answers with a document. */
    private fun MainActivity.choose(button: Int, action: String, document: Uri?) {
        press(button)
        val asked = shadowOf(this).nextStartedActivityForResult.intent
        assertEquals(action, asked.action)
        val result = if (document == null) Activity.RESULT_CANCELED else Activity.RESULT_OK
        shadowOf(this).receiveResult(asked, result, Intent().setData(document))
    }

    private fun zip(): Uri {
        val archive = File(app.cacheDir, "mine.zip")
        ZipOutputStream(archive.outputStream()).use { zip ->
            for (file in bundleFolder("tiny-pruned").listFiles().orEmpty()) {
                zip.putNextEntry(ZipEntry(file.name))
                file.inputStream().use { it.copyTo(zip) }
            }
        }
        return Uri.fromFile(archive)
    }

    private val names get() = app.bundles.map { it.name }

    @Test
    fun aPhotoIsChosen() {
        val activity = started().get()
        activity.choose(R.id.pick, Intent.ACTION_GET_CONTENT, photoUri())
        app.settle()
        assertTrue(activity.window.decorView.shows("photo.jpg, 600 × 400 pixels"))
        activity.choose(R.id.pick, Intent.ACTION_GET_CONTENT, null)
        app.settle()
        assertEquals("the photo stays", "photo.jpg", app.demo.photo?.name)
    }

    @Test
    fun aFolderComesInWithProgress() {
        Robolectric.setupContentProvider(Documents::class.java, "documents")
        val activity = started().get()
        activity.openPage(R.id.tab_bundles)
        val seen = ArrayList<Pair<String, Int>>()
        app.demo.listeners += {
            if (activity.part<View>(R.id.importing).visibility == View.VISIBLE) {
                val line = activity.part<TextView>(R.id.import_line).text.toString()
                seen += Pair(line, activity.part<ProgressBar>(R.id.import_bar).progress)
            }
        }
        val tree = DocumentsContract.buildTreeDocumentUri("documents", "primary:Download/tiny-pruned")
        activity.choose(R.id.import_folder, Intent.ACTION_OPEN_DOCUMENT_TREE, tree)
        app.settle()
        assertNull(app.demo.said)
        assertTrue(activity.part<ViewGroup>(R.id.bundles).shows("tiny-pruned-2"))
        assertEquals("Importing tiny-pruned: 0 %", seen.first().first)
        val percents = seen.map { it.second }
        assertTrue("$percents", percents.sorted() == percents && percents.distinct().size > 3)
        assertEquals(View.GONE, activity.part<View>(R.id.importing).visibility)
    }

    @Test
    fun aZipIsCancelledAndThenComesIn() {
        val activity = started().get()
        activity.openPage(R.id.tab_bundles)
        val archive = zip()
        val before = names
        activity.choose(R.id.import_zip, Intent.ACTION_OPEN_DOCUMENT, archive)
        activity.part<Button>(R.id.import_cancel).performClick()
        app.settle()
        assertEquals("The import was cancelled; nothing of it is left.", app.demo.said)
        assertEquals(before, names)
        assertEquals(before.sorted(), File(app.filesDir, "bundles").list()!!.sorted())
        activity.choose(R.id.import_zip, Intent.ACTION_OPEN_DOCUMENT, archive)
        app.settle()
        assertNull(app.demo.said)
        assertEquals(before.toSet() + "mine", names.toSet())
    }

    @Test
    fun aDocumentThatIsGoneIsSaid() {
        val activity = asked().get()
        activity.openPage(R.id.tab_bundles)
        val before = names
        activity.choose(R.id.import_zip, Intent.ACTION_OPEN_DOCUMENT, Uri.parse("file:///nowhere.zip"))
        app.settle()
        assertTrue(app.demo.said, checkNotNull(app.demo.said).startsWith("A file cannot be read or written: "))
        assertEquals(before, names)
        assertTrue("the conversation stays", app.demo.canReply)
    }
}
