package dev.vlmp.demo

import android.app.ActivityManager
import android.content.Intent
import android.net.Uri
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.Spinner
import dev.vlmp.engine.Answer
import dev.vlmp.engine.End
import dev.vlmp.engine.OnnxRuntime
import dev.vlmp.engine.RuntimeOpener
import dev.vlmp.engine.State
import java.io.File
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowActivityManager

/** The app with its engine, and what that tells the pages at once: a test sees each piece of an answer as it comes. */
class EngineApp : TestApp() {
    override val runtimes: Map<String, RuntimeOpener> = mapOf("onnx" to OnnxRuntime)
    override val loader: ChatLoader by lazy { EngineLoader(runtimes) { phone.freeMemory() } }
    override val main = java.util.concurrent.Executor { it.run() }
}

/** The whole app: real bundles, ONNX Runtime in the version of the APK, and the repository's photo. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = EngineApp::class, qualifiers = "w411dp-h891dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class EngineInAppTest {
    private val controller by lazy {
        val share = Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, photoUri())
        Robolectric.buildActivity(MainActivity::class.java, share).setup().also { app.settle() }
    }
    private val activity get() = controller.get()

    @Before
    fun importBundles() {
        room(2L shl 30)
        for (name in listOf("tiny-unpruned", "tiny-pruned")) {
            app.demo.import(FolderSource(bundleFolder(name)))
            app.settle()
        }
        assertNull(app.demo.said)
    }

    private fun room(bytes: Long) {
        val info = ActivityManager.MemoryInfo().apply {
            availMem = bytes
            totalMem = 8L shl 30
        }
        Shadow.extract<ShadowActivityManager>(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(info)
    }

    private fun press(id: Int) = assertTrue("$id can be pressed", activity.part<Button>(id).performClick())

    private fun openPage(id: Int) {
        activity.part<RadioGroup>(R.id.tabs).check(id)
        app.settle()
    }

    private fun ask(bundle: String, question: String): Turn {
        val choice = activity.part<Spinner>(R.id.bundle)
        choice.setSelection((0 until choice.count).first { choice.getItemAtPosition(it) == bundle })
        activity.part<EditText>(R.id.question).setText(question)
        press(R.id.ask)
        app.settle()
        assertNull(app.demo.said)
        return app.demo.turns.last()
    }

    private fun answered(turn: Turn): Answer = checkNotNull(turn.answer)

    /** tests/android/test_android_demo.py asks Python the same, and compares. A PNG, since decoders of JPEG differ. */
    @Test
    fun photoQuestionAndFurtherQuestion() {
        val answers = JSONObject()
        val png = Uri.fromFile(File(System.getProperty("demo.png")!!))
        app.demo.choose(readPhoto(activity.contentResolver, png))
        for (bundle in listOf("tiny-unpruned", "tiny-pruned")) {
            val first = answered(ask(bundle, FIRST))
            assertEquals(End.FINISHED, first.end)
            assertEquals(app.demo.loaded?.manifest?.numKept, first.kept.size)
            assertArrayEquals(first.kept, first.order.sortedArray())
            val second = answered(ask(bundle, SECOND))
            assertEquals(2, app.demo.turns.size)
            assertTrue("both stay on the page", activity.part<ViewGroup>(R.id.turns).shows(first.text))
            assertTrue(activity.part<ViewGroup>(R.id.turns).shows(second.text))
            answers.put(
                bundle,
                JSONObject().put("first", JSONArray(first.tokens)).put("second", JSONArray(second.tokens))
                    .put("text", first.text).put("kept", JSONArray(first.kept.toList()))
                    .put("order", JSONArray(first.order.toList())),
            )
            app.demo.choose(checkNotNull(app.demo.photo))
        }
        File(System.getProperty("demo.pictures")!!).apply { mkdirs() }.resolve("answers.json").writeText(answers.toString())
    }

    @Test
    fun theAnswerStreamsAndItsKeptTokensAreDrawn() {
        val pieces = LinkedHashSet<String>()
        app.demo.listeners += { app.demo.turns.lastOrNull()?.let { pieces += it.text } }
        val answer = answered(ask("tiny-pruned", FIRST))
        assertEquals(answer.text, pieces.last())
        assertTrue("$pieces", pieces.size > 3 && pieces.all { answer.text.startsWith(it) })
        assertTrue(activity.window.decorView.shows("The first 16 of 16 in order of selection"))
        draw(activity, "engine-answered")
    }

    @Test
    @Config(qualifiers = "+night")
    fun inTheDark() {
        ask("tiny-pruned", FIRST)
        draw(activity, "engine-answered-dark")
        comparison("engine-compared-dark")
    }

    @Test
    fun stopEndsTheAnswerAndOneCanAskFurther() {
        val whole = answered(ask("tiny-pruned", FIRST))
        app.demo.choose(checkNotNull(app.demo.photo))
        val stop = { if (app.demo.phase == State.ANSWERING && app.demo.turns.single().text.isNotEmpty()) press(R.id.stop) }
        app.demo.listeners += stop
        val stopped = answered(ask("tiny-pruned", FIRST))
        app.demo.listeners -= stop
        assertEquals(End.STOPPED, stopped.end)
        assertEquals("within a token", 1, stopped.tokens.size)
        assertTrue(whole.text.startsWith(stopped.text) && stopped.tokens.size < whole.tokens.size)
        assertTrue(activity.window.decorView.shows("Stopped."))
        assertEquals(End.FINISHED, answered(ask("tiny-pruned", SECOND)).end)
        assertEquals(2, app.demo.turns.size)
    }

    @Test
    fun turnedAndThenStoppedWhileItAnswers() {
        var turned: MainActivity? = null
        val act = {
            if (turned == null && app.demo.phase == State.ANSWERING && app.demo.turns.single().text.isNotEmpty()) {
                turned = activity
                controller.turn()
                press(R.id.stop)
            }
        }
        activity // the photo
        app.demo.listeners += act
        val stopped = answered(ask("tiny-pruned", FIRST))
        app.demo.listeners -= act
        assertTrue("another activity", turned != null && turned !== activity)
        assertEquals("within a token", Pair(End.STOPPED, 1), Pair(stopped.end, stopped.tokens.size))
        assertTrue(activity.window.decorView.shows("Stopped."))
        assertEquals(End.FINISHED, answered(ask("tiny-pruned", SECOND)).end)
    }

    /** Nothing of a turn that is stopped before its first token is left to go on from. */
    @Test
    fun stoppedBeforeTheFirstToken() {
        val stop = { if (app.demo.phase == State.ANSWERING) press(R.id.stop) }
        app.demo.listeners += stop
        activity // the photo
        ask("tiny-pruned", FIRST)
        app.demo.listeners -= stop
        assertEquals(State.READY, app.demo.phase)
        assertEquals(FIRST, ask("tiny-pruned", FIRST).question)
        assertEquals(End.FINISHED, answered(app.demo.turns.last()).end)
    }

    @Test
    fun unprunedAgainstPruned() {
        activity
        comparison("engine-compared")
    }

    private fun comparison(picture: String) {
        openPage(R.id.tab_compare)
        press(R.id.compare)
        app.settle()
        assertNull(app.demo.said)
        assertEquals(listOf("tiny-unpruned", "tiny-pruned"), app.demo.compared.map { it.bundle.name })
        assertEquals(listOf(144, 16), app.demo.compared.map { it.answer.kept.size })
        assertTrue(activity.window.decorView.shows("With tiny-pruned, the first token comes after"))
        draw(activity, picture)
    }

    @Test
    fun aBenchmark() {
        activity
        openPage(R.id.tab_benchmark)
        activity.part<EditText>(R.id.runs).setText("2")
        press(R.id.benchmark)
        app.settle()
        assertNull(app.demo.said)
        val measured = app.demo.history.list().single()
        measured.file.copyTo(File(System.getProperty("demo.pictures")!!, "engine-benchmark.json"), overwrite = true)
        draw(activity, "engine-benchmark")
    }

    @Test
    fun aStoppedBenchmark() {
        activity
        openPage(R.id.tab_benchmark)
        var pressed = false
        val stop = {
            if (!pressed && app.demo.measuring?.done == 1L) {
                pressed = true
                press(R.id.benchmark_stop)
            }
        }
        app.demo.listeners += stop
        press(R.id.benchmark)
        app.settle()
        app.demo.listeners -= stop
        assertTrue(pressed)
        assertNull(app.demo.said)
        assertEquals(emptyList<Measured>(), app.demo.history.list())
        openPage(R.id.tab_ask)
        assertEquals("the app goes on", End.FINISHED, answered(ask("tiny-pruned", FIRST)).end)
    }

    @Test
    fun aQuestionThatIsTooLongIsSaid() {
        ask("tiny-pruned", FIRST)
        activity.part<EditText>(R.id.question).setText("why ".repeat(500))
        press(R.id.ask)
        app.settle()
        assertTrue(app.demo.said, checkNotNull(app.demo.said).contains("tokens"))
        assertEquals("the conversation stays", listOf(FIRST), app.demo.turns.map { it.question })
        assertTrue(app.demo.canReply)
    }

    @Test
    fun tooLittleMemoryIsSaidBeforeLoading() {
        room(64L shl 20)
        activity.part<Spinner>(R.id.bundle).setSelection(1)
        press(R.id.ask)
        app.settle()
        assertEquals(State.FAILED, app.demo.phase)
        assertTrue(app.demo.said, checkNotNull(app.demo.said).contains("of memory, and 64 are free"))
        assertFalse(app.demo.canReply)
    }

    private companion object {
        const val FIRST = "List the objects."
        const val SECOND = "What colour is it?"
    }
}
