package dev.vlmp.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import java.io.ByteArrayInputStream
import java.io.File
import java.io.InputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApp::class)
class BundleStoreTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val folder by lazy { temporary.newFolder("store") }
    private val store by lazy { BundleStore(folder) }
    private val files = LinkedHashMap<String, ByteArray>()

    /** A real bundle, in memory, so that a test can damage it. */
    @Before
    fun readBundle() {
        for (file in bundleFolder("tiny-pruned").listFiles().orEmpty()) files[file.name] = file.readBytes()
        assertTrue(files.size > 3)
    }

    private val source = object : BundleSource {
        override val name = "tiny"

        override fun each(use: (String, InputStream) -> Boolean) {
            for ((path, data) in files) if (!use(path, ByteArrayInputStream(data))) return
        }
    }

    private fun import(from: BundleSource = source) = store.import(from) { _, _ -> true }

    private fun refused(change: () -> Unit): String {
        change()
        val line = assertThrows(Exception::class.java) { import() }.said
        assertEquals("nothing is left", emptyList<String>(), folder.list().orEmpty().toList())
        return line
    }

    private fun manifest(change: (JSONObject) -> Unit) {
        val manifest = JSONObject(String(files.getValue(MANIFEST_NAME)))
        change(manifest)
        files[MANIFEST_NAME] = manifest.toString().toByteArray()
    }

    @Test
    fun whatIsImportedIsThereWhole() {
        val told = ArrayList<Long>()
        val bundle = store.import(source) { done, total -> told.add(done).also { assertTrue(done <= total) } }
        assertEquals("tiny", bundle.name)
        assertEquals(bundle.manifest.sizeBytes, told.last())
        for ((path, data) in files) assertTrue(path, data.contentEquals(File(bundle.folder, path).readBytes()))
        assertEquals(listOf("tiny"), store.list().map { it.name })
        assertEquals("a second one gets a name of its own", "tiny-2", import().name)
        store.list().forEach { store.delete(it) }
        assertEquals(emptyList<String>(), folder.list().orEmpty().toList())
    }

    @Test
    fun aDamagedBundleIsRefusedByName() {
        val weights = files.getValue("weights.bin")
        assertEquals(
            "weights.bin is damaged: its sha256 is not the manifest's.",
            refused { files["weights.bin"] = weights.copyOf().also { it[99] = (it[99] + 1).toByte() } },
        )
        assertEquals("weights.bin is damaged: its size is not the manifest's.", refused { files["weights.bin"] = weights.copyOf(99) })
        assertEquals("weights.bin is damaged: its size is not the manifest's.", refused { files["weights.bin"] = weights + weights })
        assertEquals("weights.bin is missing in the bundle.", refused { files.remove("weights.bin") })
    }

    @Test
    fun aManifestThatIsNoneIsRefused() {
        assertTrue(refused { manifest { it.put("schema_version", 9) } }.contains("schema_version is 9"))
        assertTrue(refused { manifest { it.put("schema_version", 2).remove("shapes") } }.contains("shapes"))
        val cut = refused { files[MANIFEST_NAME] = "{".toByteArray() }
        assertTrue(cut, cut.startsWith("manifest.json"))
        assertTrue(refused { files[MANIFEST_NAME] = ByteArray(9 shl 20) }.contains("larger"))
        assertTrue(refused { files.remove(MANIFEST_NAME) }.startsWith("There is no manifest.json in it"))
    }

    @Test
    fun noNameLeavesTheBundlesFolder() {
        for (path in listOf("../out", "/out", "a/../../out", "a\\b", "a\u0000", "", ".")) {
            val line = refused {
                manifest {
                    it.put("schema_version", 2)
                    it.getJSONArray("files").getJSONObject(0).put("path", path)
                }
            }
            assertTrue("$path: $line", line.endsWith("which leaves the bundle's folder"))
        }
        val named = object : BundleSource by source {
            override val name = "../../out"
        }
        readBundle()
        assertEquals("out", import(named).name.trimStart('.', '-'))
        assertEquals(folder, import(named).folder.parentFile)
    }

    @Test
    fun aFullPhoneIsSaidBeforeAnythingIsCopied() {
        var copied = 0
        val error = assertThrows(Refused::class.java) { store.import(source, { 60L shl 20 }) { _, _ -> copied++ >= 0 } }
        assertTrue(error.said, error.said.contains("only 60 MiB are free"))
        assertEquals(0, copied)
    }

    @Test
    fun aCancelledImportLeavesNothing() {
        assertThrows(ImportCancelled::class.java) { store.import(source) { _, _ -> false } }
        assertEquals(emptyList<String>(), folder.list().orEmpty().toList())
    }

    @Test
    fun whatAKilledProcessLeftIsRemoved() {
        File(folder, ".part-old").mkdirs()
        File(folder, ".part-old/weights.bin").writeText("half")
        File(folder, "broken").mkdirs()
        assertEquals(emptyList<String>(), BundleStore(folder).list().map { it.name })
        assertTrue(!File(folder, ".part-old").exists())
    }

    @Test
    fun anArchiveWithAFolderInside() {
        val archive = temporary.newFile("my bundle.zip")
        ZipOutputStream(archive.outputStream()).use { zip ->
            // The manifest comes last, as it may.
            for ((path, data) in files.toList().sortedBy { it.first == MANIFEST_NAME }) {
                zip.putNextEntry(ZipEntry("tiny/$path"))
                zip.write(data)
            }
        }
        val bundle = import(ZipSource(app.contentResolver, Uri.fromFile(archive)))
        assertEquals("my-bundle", bundle.name)
        assertEquals(16, bundle.manifest.numKept)
    }

    @Test
    fun aFolderOfTheSystemsPicker() {
        Robolectric.setupContentProvider(Documents::class.java, "documents")
        val tree = DocumentsContract.buildTreeDocumentUri("documents", "primary:Download/tiny-pruned")
        val bundle = import(TreeSource(app.contentResolver, tree))
        assertEquals("tiny-pruned", bundle.name)
        assertEquals(144, bundle.manifest.image.visualTokens)
    }

    @Test
    fun cachesAreCountedAsTheGraphsHaveThem() {
        val manifest = Bundle(bundleFolder("tiny-pruned")).manifest
        val unpruned = Bundle(bundleFolder("tiny-unpruned")).manifest
        assertTrue(manifest.pruned && !unpruned.pruned)
        assertTrue(manifest.cacheBytes < unpruned.cacheBytes)
        assertEquals(Pair(0, 1), manifest.image.segments[0].cell(1))
        assertEquals(null, manifest.image.segments[0].cell(144))
    }
}

/** What the system's picker leads to: `Download` holds the exported bundles. */
class Documents : ContentProvider() {
    override fun onCreate() = true

    override fun query(uri: Uri, columns: Array<String>?, where: String?, values: Array<String>?, order: String?): Cursor {
        val parent = DocumentsContract.getDocumentId(uri)
        val cursor = MatrixCursor(arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME, Document.COLUMN_MIME_TYPE))
        for (file in file(parent).listFiles().orEmpty()) {
            val type = if (file.isDirectory) Document.MIME_TYPE_DIR else "application/octet-stream"
            cursor.addRow(arrayOf("$parent/${file.name}", file.name, type))
        }
        return cursor
    }

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor =
        ParcelFileDescriptor.open(file(DocumentsContract.getDocumentId(uri)), ParcelFileDescriptor.MODE_READ_ONLY)

    override fun getType(uri: Uri): String? = null

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, where: String?, values: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

    private fun file(document: String) = bundleFolder(document.removePrefix("primary:Download/"))
}
