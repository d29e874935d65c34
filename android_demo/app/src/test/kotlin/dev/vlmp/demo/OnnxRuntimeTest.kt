package dev.vlmp.demo

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import java.io.File
import java.nio.FloatBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** ONNX Runtime itself, beside Android's classes: the same version and the same Java code as in the APK. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApp::class)
class OnnxRuntimeTest {
    @Test
    fun theVisionGraphOfABundleRuns() {
        val environment = OrtEnvironment.getEnvironment()
        val manifest = Bundle(bundleFolder("tiny-pruned")).manifest
        val shape = longArrayOf(1, 3, manifest.height.toLong(), manifest.width.toLong())
        val grey = FloatBuffer.wrap(FloatArray(3 * manifest.height * manifest.width) { 128f })
        environment.createSession(File(bundleFolder("tiny-pruned"), "vision.onnx").path).use { session ->
            OnnxTensor.createTensor(environment, grey, shape).use { pixels ->
                session.run(mapOf(session.inputNames.single() to pixels)).use { result ->
                    val visual = result[0] as OnnxTensor
                    assertArrayEquals(longArrayOf(144, visual.info.shape[1]), visual.info.shape)
                    val values = FloatArray(visual.floatBuffer.remaining()).also { visual.floatBuffer.get(it) }
                    assertTrue(values.all { it.isFinite() } && values.any { it != 0f })
                }
            }
        }
    }
}
