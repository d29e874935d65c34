import Foundation
import Testing
import VlmpApp
import VlmpCore

@Suite struct KeptTokensTests {
    private let square = photo(width: 50, height: 50)

    private func answer(stages: [[Int]], order: [Int]) -> Answer {
        Answer(text: "", tokens: [], end: .finished, stages: stages, order: order, timings: Timings())
    }

    @Test func tokensLieWhereTheyAreInThePhoto() throws {
        // 6 x 6 cells over a square; the photo fills it.
        let kept = KeptTokens(
            answer(stages: [[0, 7, 35]], order: [35, 0, 7]), stage: 0, shown: nil, try manifest(), square)
        #expect(kept.ordered)
        #expect(kept.kept.map(\.number) == [2, 3, 1])
        #expect(kept.dropped.count == 33)
        let cells = kept.kept.map(\.place)
        #expect(cells[0] == CGRect(x: 0, y: 0, width: 28.0 / 168, height: 28.0 / 168))
        #expect(abs(cells[1].minX - 1.0 / 6) < 1e-12 && abs(cells[1].minY - 1.0 / 6) < 1e-12)
        #expect(abs(cells[2].maxX - 1) < 1e-12 && abs(cells[2].maxY - 1) < 1e-12)
        #expect(kept.onPadding == 0)
    }

    @Test func theSliderShowsTheFirstOnesInOrderOfSelection() throws {
        let whole = answer(stages: [[0, 7, 35]], order: [35, 0, 7])
        let kept = KeptTokens(whole, stage: 0, shown: 2, try manifest(), square)
        #expect(kept.kept.map(\.number) == [2, 1])
        #expect(kept.dropped.count == 34)
        #expect(kept.line == "The first 2 of 3 in order of selection")
        let beyond = KeptTokens(whole, stage: 0, shown: 99, try manifest(), square)
        #expect(beyond.shown == 3)
    }

    @Test func cellsOnThePaddingAreCountedAndCellsAtTheEdgeAreCut() throws {
        // Twice as wide as high: 42 pixels of bar above and below, one row of cells and a half.
        let kept = KeptTokens(
            answer(stages: [[0, 6, 12]], order: [0, 6, 12]), stage: 0, shown: nil, try manifest(),
            photo(width: 100, height: 50))
        #expect(kept.onPadding == 1)
        #expect(kept.kept.map(\.number) == [2, 3])
        #expect(kept.kept[0].place.minY == 0)
        #expect(abs(kept.kept[0].place.height - 14.0 / 84) < 1e-12)
        #expect(abs(kept.kept[1].place.height - 28.0 / 84) < 1e-12)
        #expect(kept.line.hasSuffix("; 1 of them lie beside the photo, on its padding"))
    }

    @Test func onlyTheLastStageHasAnOrderAndAnUnprunedBundleHasNone() throws {
        let staged = answer(stages: [[0, 7, 35], [7]], order: [7])
        let first = KeptTokens(staged, stage: 0, shown: 1, try manifest(), square)
        #expect(!first.ordered)
        #expect(first.kept.map(\.number) == [nil, nil, nil])
        #expect(first.line == "All 3 kept tokens")
        let all = Array(0..<36)
        let plain = KeptTokens(
            answer(stages: [all], order: all), stage: 0, shown: 3, try manifest(pruned: false), square)
        #expect(!plain.ordered)
        #expect(plain.kept.count == 36)
    }
}
