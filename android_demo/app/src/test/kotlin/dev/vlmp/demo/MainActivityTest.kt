package dev.vlmp.demo

import android.content.Intent
import android.graphics.Bitmap
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config

class MainActivityTest : PagesTest() {
    // --- What one sees ------------------------------------------------------------------------------------------------

    @Test
    fun theFirstScreenSaysWhatToDo() {
        val activity = started().get()
        val picture = draw(activity, "first")
        assertTrue(activity.window.decorView.shows("No photo yet"))
        assertFalse(activity.part<Button>(R.id.ask).isEnabled)
        assertTrue(colours(picture) > 20)
    }

    @Test
    fun theFirstStartBringsTheBundlesOfTheApkIn() {
        app.bundles.forEach {
            app.demo.delete(it)
            app.settle()
        }
        assertEquals(emptyList<String>(), app.bundles.map { it.name })
        shared()
        assertNull(app.demo.said)
        assertEquals("a photo that is shared meanwhile is taken", "photo.jpg", app.demo.photo?.name)
        assertEquals(listOf("tiny-unpruned", "tiny-pruned"), app.bundles.map { it.name })
        app.demo.delete(app.bundles[0])
        app.settle()
        started()
        assertEquals("what was deleted stays away", listOf("tiny-pruned"), app.bundles.map { it.name })
    }

    @Test
    fun anAnswerIsShownWithTheTokensThatWereKept() {
        val activity = asked().get()
        val seen = activity.window.decorView
        assertTrue(seen.shows("A red square."))
        assertTrue(seen.shows("First token after 171 ms: vision 120"))
        assertTrue(seen.shows("The first 16 of 16 in order of selection; 5 of them lie beside the photo"))
        val all = draw(activity, "answered")
        activity.part<SeekBar>(R.id.shown).progress = 4
        assertTrue(seen.shows("The first 4 of 16"))
        assertEquals(
            "The photo photo.jpg. 4 of 144 visual tokens are shown as kept.",
            activity.part<View>(R.id.photo).contentDescription,
        )
        assertFalse("fewer tokens are shown", all.sameAs(draw(activity, "answered-4")))
    }

    @Test
    @Config(qualifiers = "+night")
    fun darkMode() {
        val activity = asked().get()
        val dark = draw(activity, "dark")
        assertTrue("the background is dark", android.graphics.Color.luminance(dark.getPixel(2, dark.height - 2)) < 0.1)
        drawOtherPages(activity, "dark")
    }

    @Test
    fun largeFonts() {
        RuntimeEnvironment.setFontScale(2f)
        val activity = asked().get()
        draw(activity, "large-fonts")
        for (id in listOf(R.id.pick, R.id.take, R.id.ask, R.id.stop)) {
            val button = activity.part<Button>(id)
            assertTrue("the words of $id fit", button.layout.height <= button.height)
            assertTrue("$id is not cut off", button.bottom <= (button.parent as View).height)
        }
        drawOtherPages(activity, "large-fonts")
    }

    @Test
    @Config(qualifiers = "w891dp-h411dp-land-xhdpi")
    fun landscape() {
        val activity = asked().get()
        draw(activity, "landscape")
        drawOtherPages(activity, "landscape")
    }

    /** With something on each, for a person to look at. */
    private fun drawOtherPages(activity: MainActivity, mode: String) {
        for ((name, tab, button) in listOf(
            Triple("compare", R.id.tab_compare, R.id.compare),
            Triple("bundles", R.id.tab_bundles, null),
            Triple("benchmark", R.id.tab_benchmark, R.id.benchmark),
        )) {
            activity.openPage(tab)
            if (button != null) activity.press(button)
            app.settle()
            assertNull(app.demo.said)
            draw(activity, "$name-$mode")
        }
    }

    @Test
    fun everyPressableThingHasAName() {
        val activity = asked().get()
        for (tab in listOf(R.id.tab_ask, R.id.tab_compare, R.id.tab_bundles, R.id.tab_benchmark)) {
            activity.openPage(tab)
            for (view in all(activity.window.decorView).filter { it.isShown && (it is Button || it is EditText || it is SeekBar) }) {
                val label = view.contentDescription ?: (view as? TextView)?.let { it.text.ifEmpty { it.hint } }
                assertFalse("$view has no name", label.isNullOrEmpty())
                assertTrue("$view is too small for a finger", view.height >= 48 * activity.resources.displayMetrics.density - 1)
            }
        }
    }

    // --- What one does ------------------------------------------------------------------------------------------------

    @Test
    fun aFurtherQuestionGoesToTheSameConversation() {
        val activity = asked().get()
        assertEquals("Ask further", activity.part<Button>(R.id.ask).text)
        activity.press(R.id.ask)
        app.settle()
        assertTrue(activity.window.decorView.shows("It is red."))
        assertEquals(listOf("load tiny-pruned", "ask tiny-pruned", "reply tiny-pruned"), app.chats.calls)
    }

    @Test
    fun theCameraWritesThePhoto() {
        val activity = started().get()
        activity.press(R.id.take)
        val asked = org.robolectric.Shadows.shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals(android.provider.MediaStore.ACTION_IMAGE_CAPTURE, asked.action)
        val target = asked.getParcelableExtra(android.provider.MediaStore.EXTRA_OUTPUT, android.net.Uri::class.java)!!
        activity.contentResolver.openOutputStream(target)!!.use { output ->
            activity.contentResolver.openInputStream(photoUri())!!.use { it.copyTo(output) }
        }
        org.robolectric.Shadows.shadowOf(activity).receiveResult(asked, android.app.Activity.RESULT_OK, null)
        app.settle()
        assertTrue(activity.window.decorView.shows("photo.jpg, 600 × 400 pixels"))
        assertTrue(activity.part<Button>(R.id.ask).isEnabled)
    }

    @Test
    fun aPictureThatIsSharedLaterIsTaken() {
        val controller = started()
        val share = Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, photoUri())
        controller.newIntent(share)
        app.settle()
        assertEquals("photo.jpg", app.demo.photo?.name)
        controller.newIntent(Intent(share).putExtra(Intent.EXTRA_STREAM, android.net.Uri.parse("file:///nowhere.jpg")))
        app.settle()
        assertTrue(checkNotNull(app.demo.said).startsWith("The photo cannot be read"))
        assertEquals("the photo stays", "photo.jpg", app.demo.photo?.name)
    }

    @Test
    fun unprunedAgainstPruned() {
        val activity = shared().get()
        activity.openPage(R.id.tab_compare)
        activity.press(R.id.compare)
        app.settle()
        draw(activity, "compare")
        val seen = activity.window.decorView
        assertTrue(seen.shows("First token after 299 ms"))
        assertTrue(seen.shows("the first token comes after 57 % of the time"))
        assertEquals(
            "each is warmed up",
            listOf(
                "load tiny-unpruned", "ask tiny-unpruned", "ask tiny-unpruned", "close tiny-unpruned",
                "load tiny-pruned", "ask tiny-pruned", "ask tiny-pruned",
            ),
            app.chats.calls,
        )
    }

    @Test
    fun twoSchedulesSideBySideWithWhatEachStageKept() {
        app.demo.import(FolderSource(stagedBundle()))
        app.settle()
        val activity = shared().get()
        activity.openPage(R.id.tab_compare)
        for (choice in listOf(R.id.one_bundle, R.id.other_bundle)) activity.part<Spinner>(choice).setSelection(1)
        activity.press(R.id.compare)
        app.settle()
        assertNull(app.demo.said)
        draw(activity, "compare-schedules")
        val columns = activity.part<ViewGroup>(R.id.compared).let { both -> List(both.childCount) { both.getChildAt(it) } }
        fun stages(column: View) = column.part<ViewGroup>(R.id.compared_stages).let { all -> List(all.childCount) { all.getChildAt(it) } }
        assertEquals(
            listOf(listOf(16), listOf(72, 16)),
            columns.map { column ->
                stages(column).map { stage ->
                    val told = stage.part<View>(R.id.stage_photo).contentDescription
                    checkNotNull(Regex("The photo photo.jpg. (\\d+) of 144 visual tokens are shown as kept.").matchEntire(told)) { told }
                        .groupValues[1].toInt()
                }
            },
        )
        assertTrue(columns[1].shows("vision tower, block 2: 72 of 144"))
        assertTrue("side by side", columns[0].top == columns[1].top && columns[0].right <= columns[1].left)
        assertTrue("a photo is seen", stages(columns[1])[0].part<View>(R.id.stage_photo).height > 100)
    }

    @Test
    fun bundlesAreListedAndDeleted() {
        val activity = shared().get()
        activity.openPage(R.id.tab_bundles)
        draw(activity, "bundles")
        val list = activity.part<ViewGroup>(R.id.bundles)
        assertTrue(list.shows("16 of 144 visual tokens (vlm-pruner)"))
        list.getChildAt(1).part<Button>(R.id.act).performClick()
        org.robolectric.shadows.ShadowAlertDialog.getLatestAlertDialog().getButton(-1).performClick()
        app.settle()
        assertEquals(listOf("tiny-unpruned"), app.bundles.map { it.name })
        assertFalse(list.shows("vlm-pruner"))
    }

    @Test
    fun aDamagedBundleIsSaidAndLeavesTheOthers() {
        val damaged = java.io.File(app.cacheDir, "damaged")
        bundleFolder("tiny-pruned").copyRecursively(damaged)
        java.io.RandomAccessFile(java.io.File(damaged, "weights.bin"), "rw").use {
            val byte = it.read()
            it.seek(0)
            it.write(byte xor 1)
        }
        val activity = shared().get()
        activity.openPage(R.id.tab_bundles)
        app.demo.import(FolderSource(damaged))
        app.settle()
        assertTrue(activity.window.decorView.shows("weights.bin is damaged: its sha256 is not the manifest's."))
        assertEquals(listOf("tiny-unpruned", "tiny-pruned"), app.bundles.map { it.name })
        app.demo.import(FolderSource(bundleFolder("tiny-pruned")))
        app.settle()
        assertNull(app.demo.said)
        assertTrue("the same one again", activity.part<ViewGroup>(R.id.bundles).shows("tiny-pruned-2"))
    }

    @Test
    fun aBenchmarkIsAProfile() {
        val activity = shared().get()
        activity.openPage(R.id.tab_benchmark)
        activity.part<EditText>(R.id.runs).setText("3")
        activity.press(R.id.benchmark)
        app.settle()
        draw(activity, "benchmark")
        assertNull(app.demo.said)
        val measured = app.demo.history.list().single()
        val figure = measured.bundles[0].phases.first { it.name == "first_token" }
        val panels = activity.part<ViewGroup>(R.id.measured)
        assertTrue(panels.shows("first_token: ${ms(figure.median)} ms (${ms(figure.low)} to ${ms(figure.high)})"))
        assertTrue(panels.shows("Heat: none."))
        val turns = app.chats.calls.map { it.removePrefix("measure ") }
        assertEquals("bundles take turns", List(6) { listOf("tiny-unpruned", "tiny-pruned")[it % 2] }, turns)
        panels.getChildAt(0).part<Button>(R.id.act).performClick()
        val sent = org.robolectric.Shadows.shadowOf(activity).nextStartedActivity
        assertEquals(Intent.ACTION_CHOOSER, sent.action)
        val lent = activity.contentResolver.openInputStream(LentFiles.uri(measured.file.name))
        assertTrue("others can read it", checkNotNull(lent).use { it.read() } == '{'.code)
        val pictures = java.io.File(System.getProperty("demo.pictures")!!)
        measured.file.copyTo(java.io.File(pictures, "scripted-benchmark.json"), overwrite = true)
        panels.getChildAt(0).part<Button>(R.id.act_too).performClick()
        org.robolectric.shadows.ShadowAlertDialog.getLatestAlertDialog().getButton(-1).performClick()
        org.robolectric.shadows.ShadowLooper.idleMainLooper()
        assertEquals(0, panels.childCount)
        assertFalse(measured.file.exists())
    }

    private fun all(view: View): List<View> =
        listOf(view) + if (view is ViewGroup) (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else emptyList()

    private fun colours(bitmap: Bitmap): Int {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return pixels.distinct().size
    }
}
