package dev.vlmp.demo

import android.app.ActivityManager
import android.content.Intent
import android.widget.Button
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.Spinner
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowActivityManager

/** What tests of the pages have in common: a phone with room, two bundles, and a scripted engine. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApp::class, qualifiers = "w411dp-h891dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
abstract class PagesTest {
    @Before
    fun aPhoneWithRoom() {
        val info = ActivityManager.MemoryInfo().apply {
            availMem = 2L shl 30
            totalMem = 8L shl 30
        }
        val manager = app.getSystemService(ActivityManager::class.java)
        Shadow.extract<ShadowActivityManager>(manager).setMemoryInfo(info)
        for (name in listOf("tiny-unpruned", "tiny-pruned")) {
            app.demo.import(FolderSource(bundleFolder(name)))
            app.settle()
        }
        assertNull(app.demo.said)
    }

    protected fun started(intent: Intent = Intent(Intent.ACTION_MAIN)): ActivityController<MainActivity> =
        Robolectric.buildActivity(MainActivity::class.java, intent).setup().also { app.settle() }

    /** With a photo that another app has shared. */
    protected fun shared() =
        started(Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, photoUri()))

    protected fun MainActivity.press(id: Int) = assertTrue("$id can be pressed", part<Button>(id).performClick())

    protected fun MainActivity.openPage(id: Int) {
        part<RadioGroup>(R.id.tabs).check(id)
        app.settle()
    }

    /** [bundle]: its place in the list, where the unpruned one comes first. */
    protected fun MainActivity.ask(question: String, bundle: Int = 1) {
        part<Spinner>(R.id.bundle).setSelection(bundle)
        part<EditText>(R.id.question).setText(question)
        press(R.id.ask)
        app.settle()
    }

    protected fun asked(): ActivityController<MainActivity> = shared().also { it.get().ask("What is in it?") }
}
