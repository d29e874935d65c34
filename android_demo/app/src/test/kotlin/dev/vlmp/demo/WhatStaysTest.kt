package dev.vlmp.demo

import android.net.Uri
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.SeekBar
import android.widget.Spinner
import dev.vlmp.engine.BadPrompt
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** A phone that is turned, an app that goes to the background, a process that Android ends: nothing is lost. */
class WhatStaysTest : PagesTest() {
    /** Does something once, as soon as the answer has its first word. */
    private fun atTheFirstWord(act: () -> Unit) {
        var done = false
        app.demo.listeners += {
            if (!done && app.demo.turns.lastOrNull()?.text == "A ") {
                done = true
                act()
            }
        }
    }

    /** Android ends the process in the background, and starts another one with what was saved. */
    private fun startedAgain(controller: ActivityController<MainActivity>): MainActivity {
        val saved = android.os.Bundle().also { controller.saveInstanceState(it) }
        controller.pause().stop().destroy()
        return startedAgain(saved)
    }

    private fun startedAgain(saved: android.os.Bundle): MainActivity {
        app.die()
        return Robolectric.buildActivity(MainActivity::class.java).setup(saved).also { app.settle() }.get()
    }

    // --- A phone that is turned ---------------------------------------------------------------------------------------

    @Test
    fun turningThePhoneKeepsEverything() {
        val controller = asked()
        controller.get().part<EditText>(R.id.question).setText("half a ques")
        controller.get().openPage(R.id.tab_compare)
        controller.turn()
        val activity = controller.get()
        assertEquals(View.VISIBLE, activity.part<View>(R.id.page_compare).visibility)
        activity.openPage(R.id.tab_ask)
        assertTrue(activity.window.decorView.shows("A red square."))
        assertEquals("half a ques", activity.part<EditText>(R.id.question).text.toString())
        assertEquals("tiny-pruned", activity.part<Spinner>(R.id.bundle).selectedItem)
        assertEquals("the bundle was not loaded again", 1, app.chats.calls.count { it.startsWith("load") })
    }

    @Test
    fun turningThePhoneWhileItAnswers() {
        val controller = shared()
        val before = controller.get()
        atTheFirstWord { controller.turn() }
        before.ask("What is in it?")
        assertFalse("another activity", before === controller.get())
        assertTrue(controller.get().window.decorView.shows("A red square."))
        assertFalse("it was seen", controller.get().window.decorView.shows("in the background"))
        assertEquals(listOf("load tiny-pruned", "ask tiny-pruned"), app.chats.calls)
    }

    // --- An app in the background -------------------------------------------------------------------------------------

    @Test
    fun anAnswerIsFinishedInTheBackgroundAndSaysSo() {
        val controller = shared()
        var kept = false
        atTheFirstWord {
            kept = controller.get().part<View>(R.id.main).keepScreenOn
            controller.pause().stop()
        }
        shadowOf(app).clearStartedServices() // of what came before
        while (shadowOf(app).nextStoppedService != null) continue
        controller.get().ask("What is in it?")
        assertTrue("the screen does not go off by itself", kept)
        assertEquals(Work::class.java.name, shadowOf(app).nextStartedService.component?.className)
        assertEquals(Work::class.java.name, shadowOf(app).nextStoppedService.component?.className)
        assertEquals("A red square.", app.demo.turns.single().answer?.text)
        controller.restart().start().resume()
        val seen = controller.get().window.decorView
        assertTrue(seen.shows("A red square."))
        assertTrue(seen.shows("tiny-pruned is ready. The last task has ended while this app was in the background."))
        assertFalse(controller.get().part<View>(R.id.main).keepScreenOn)
        controller.get().ask("And now?")
        assertFalse(seen.shows("in the background"))
    }

    @Test
    fun anAnswerThatEndsBeforeItsProcessDoesIsNotLost() {
        val controller = shared()
        val saved = android.os.Bundle()
        atTheFirstWord { controller.saveInstanceState(saved).pause().stop() }
        controller.get().ask("What is in it?")
        controller.destroy()
        assertTrue(startedAgain(saved).window.decorView.shows("A red square."))
    }

    // --- A process that is ended --------------------------------------------------------------------------------------

    @Test
    fun aProcessThatIsEndedLosesNothing() {
        val controller = asked()
        controller.get().part<EditText>(R.id.question).setText("And now?")
        val activity = startedAgain(controller)
        val seen = activity.window.decorView
        assertNull(app.demo.said)
        assertEquals("photo.jpg", app.demo.photo?.name)
        assertTrue(seen.shows("You: What is in it?"))
        assertTrue(seen.shows("A red square."))
        assertTrue("figures", seen.shows("First token after 171 ms: vision 120"))
        assertTrue("kept tokens", seen.shows("The first 16 of 16 in order of selection"))
        assertEquals(16, activity.part<SeekBar>(R.id.shown).progress)
        assertEquals("And now?", activity.part<EditText>(R.id.question).text.toString())
        assertEquals("Ask", activity.part<Button>(R.id.ask).text)
        assertEquals("tiny-pruned", activity.part<Spinner>(R.id.bundle).selectedItem)
        activity.press(R.id.ask)
        app.settle()
        assertEquals("a new conversation", listOf("And now?"), app.demo.turns.map { it.question })
        assertEquals("ask tiny-pruned", app.chats.calls.last())
    }

    @Test
    fun aProcessThatIsEndedWhileItAnswers() {
        val controller = shared()
        val saved = android.os.Bundle()
        val file = File(app.filesDir, "shown.json")
        var half = ""
        atTheFirstWord {
            controller.saveInstanceState(saved)
            half = file.readText()
        }
        controller.get().ask("What is in it?")
        controller.pause().stop().destroy()
        file.writeText(half) // Android ended the process there, and nothing came after
        val activity = startedAgain(saved)
        assertEquals(listOf("A "), app.demo.turns.map { it.text })
        assertTrue(activity.window.decorView.shows("The answer was cut off when Android ended this app."))
        assertTrue(activity.part<Button>(R.id.ask).isEnabled)
    }

    @Test
    fun whatWasComparedAndWhatWasTickedStay() {
        val controller = shared()
        controller.get().openPage(R.id.tab_compare)
        controller.get().press(R.id.compare)
        app.settle()
        controller.get().openPage(R.id.tab_benchmark)
        (controller.get().part<ViewGroup>(R.id.chosen).getChildAt(0) as CheckBox).performClick()
        val ticked = { activity: MainActivity ->
            activity.part<ViewGroup>(R.id.chosen).let { all -> List(all.childCount) { (all.getChildAt(it) as CheckBox).isChecked } }
        }
        controller.turn()
        assertEquals(listOf(false, true), ticked(controller.get()))
        controller.get().openPage(R.id.tab_compare) // now the boxes are on a page that is not seen
        val activity = startedAgain(controller)
        assertTrue(activity.window.decorView.shows("First token after 299 ms"))
        assertTrue(activity.window.decorView.shows("the first token comes after 57 % of the time"))
        activity.openPage(R.id.tab_benchmark)
        assertEquals(listOf(false, true), ticked(activity))
        activity.press(R.id.benchmark)
        app.settle()
        assertEquals(listOf("tiny-pruned"), app.demo.history.list().single().bundles.map { it.name })
    }

    @Test
    fun aPhotoThatIsGoneAndAFileThatIsDamaged() {
        val file = File(app.filesDir, "shown.json")
        val controller = asked()
        val saved = android.os.Bundle().also { controller.saveInstanceState(it) }
        controller.pause().stop().destroy()
        file.writeText(file.readText().replace(Regex("file:[^\"]*"), "file:///nowhere.jpg"))
        val without = startedAgain(saved)
        assertTrue(checkNotNull(app.demo.said).startsWith("The photo cannot be read"))
        assertEquals(Uri.parse("file:///nowhere.jpg"), app.demo.photoUri)
        assertTrue("what was said stays", without.window.decorView.shows("You: What is in it?"))
        for (damaged in listOf("", "{}", file.readText().replace("FINISHED", "LOST"), file.readText().drop(9))) {
            file.writeText(damaged)
            assertFalse(damaged, startedAgain(saved).window.decorView.shows("You: "))
        }
    }

    @Test
    fun aConversationEndsWhenItsBundleIsAskedSomethingElse() {
        val activity = shared().get()
        activity.ask("What is in it?", bundle = 0)
        activity.openPage(R.id.tab_compare)
        app.chats.fault = BadPrompt(BadPrompt.Kind.TOO_LONG, "The question is too long.")
        activity.press(R.id.compare)
        app.settle()
        app.chats.fault = null
        activity.openPage(R.id.tab_ask)
        assertEquals("the page still shows it", listOf("What is in it?"), app.demo.turns.map { it.question })
        assertEquals("Ask", activity.part<Button>(R.id.ask).text)
    }
}
